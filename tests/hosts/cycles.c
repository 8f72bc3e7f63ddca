/*
 * Loads and frees again and again, with every kind of object and some work between: what the hooks gave must all have come
 * back, and the process must not have grown.
 *
 *     cycles MODEL.gguf TIMES
 */
#include <dsv4.h>

#include <stdio.h>
#include <stdlib.h>

struct count {
    size_t bytes, blocks, most;
};

static void *give(void *user, size_t bytes, size_t align) {
    struct count *count = user;
    void *memory = NULL;
    if (align < sizeof(void *) || (align & (align - 1)) != 0) return NULL;
    memory = malloc(bytes + align + sizeof(void *));
    if (!memory) return NULL;
    {
        uintptr_t start = ((uintptr_t)memory + sizeof(void *) + align - 1) / align * align;
        ((void **)start)[-1] = memory;
        count->bytes += bytes;
        count->blocks++;
        if (count->bytes > count->most) count->most = count->bytes;
        return (void *)start;
    }
}

static void take(void *user, void *memory, size_t bytes) {
    struct count *count = user;
    count->bytes -= bytes;
    count->blocks--;
    free(((void **)memory)[-1]);
}

/* Kilobytes of the process in memory, or 0 where nobody tells. */
static long resident(void) {
    long pages = 0, all = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%ld %ld", &all, &pages) != 2) pages = 0;
    fclose(file);
    return pages * 4;
}

static dsv4_status once(const char *path, const dsv4_allocator *allocator) {
    dsv4_model_params mp = {0};
    dsv4_tokenizer_params tp = {0};
    dsv4_session_params sp = {0};
    dsv4_sampler_params pp = {0};
    dsv4_model_info info = {0};
    dsv4_model *model = NULL;
    dsv4_tokenizer *tokenizer = NULL;
    dsv4_session *session = NULL;
    dsv4_sampler *sampler = NULL;
    uint32_t tokens[16];
    size_t n = 0;
    float *logits = NULL;
    dsv4_status status;

    mp.size = sizeof mp;
    mp.path = path;
    mp.threads = 2;
    mp.allocator = allocator;
    status = dsv4_model_open(&mp, &model, NULL);
    info.size = sizeof info;
    if (status == DSV4_OK) status = dsv4_model_get_info(model, &info);
    tp.size = sizeof tp;
    tp.model = model;
    tp.allocator = allocator;
    if (status == DSV4_OK) status = dsv4_tokenizer_new(&tp, &tokenizer, NULL);
    sp.size = sizeof sp;
    sp.context = 64;
    sp.batch = 16;
    if (status == DSV4_OK) status = dsv4_session_new(model, &sp, &session, NULL);
    pp.size = sizeof pp;
    pp.vocab = info.vocab;
    pp.temperature = 1;
    pp.allocator = allocator;
    if (status == DSV4_OK) status = dsv4_sampler_new(&pp, &sampler, NULL);
    if (status == DSV4_OK) status = dsv4_tokenizer_encode(tokenizer, "One day", 7, 0, tokens, 16, &n);
    logits = malloc((info.vocab + 1) * sizeof *logits);
    if (status == DSV4_OK) status = dsv4_session_eval(session, tokens, n, logits, info.vocab);
    if (status == DSV4_OK) status = dsv4_sampler_sample(sampler, logits, info.vocab, NULL, 0, NULL, 0, tokens);
    free(logits);
    if (dsv4_sampler_free(sampler) != DSV4_OK) status = DSV4_BUSY;
    if (dsv4_session_free(session) != DSV4_OK) status = DSV4_BUSY;
    if (dsv4_tokenizer_free(tokenizer) != DSV4_OK) status = DSV4_BUSY;
    if (dsv4_model_free(model) != DSV4_OK) status = DSV4_BUSY;
    return status;
}

int main(int argc, char **argv) {
    struct count count = {0};
    dsv4_allocator allocator = {0};
    long first = 0, last;
    unsigned long i, times;
    if (argc != 3) return 2;
    allocator.size = sizeof allocator;
    allocator.alloc = give;
    allocator.free = take;
    allocator.user = &count;
    times = strtoul(argv[2], NULL, 10);
    for (i = 0; i < times; i++) {
        dsv4_status status = once(argv[1], i % 2 ? &allocator : NULL);
        if (status != DSV4_OK || count.bytes != 0 || count.blocks != 0) {
            fprintf(stderr, "cycle %lu: %s, %lu bytes in %lu blocks are left\n", i, dsv4_status_name(status),
                    (unsigned long)count.bytes, (unsigned long)count.blocks);
            return 1;
        }
        if (i == times / 4) first = resident();
    }
    last = resident();
    printf("%lu cycles, %lu bytes at most, %ld then %ld KiB resident\n", times, (unsigned long)count.most, first, last);
    return times > 100 && last > first + 4096;
}
