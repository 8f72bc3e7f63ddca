/*
 * Calls every exported function with NULL, misaligned, freed and otherwise wrong arguments (tests/hosts/run checks that
 * each is named here): statuses come back, and outputs stay as they were.
 *
 *     invalid MODEL.gguf
 */
#include <dsv4.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define EXPECT(wanted, call)                                                                              \
    do {                                                                                                  \
        dsv4_status got_ = (call);                                                                        \
        if (got_ != (wanted)) {                                                                           \
            failures++;                                                                                   \
            fprintf(stderr, "%d: %s: %s instead of %s\n", __LINE__, #call, dsv4_status_name(got_), #wanted); \
        }                                                                                                 \
    } while (0)

#define HOLDS(what)                                                  \
    do {                                                             \
        if (!(what)) {                                               \
            failures++;                                              \
            fprintf(stderr, "%d: not so: %s\n", __LINE__, #what);    \
        }                                                            \
    } while (0)

#define BAD DSV4_BAD_ARGUMENT
#define ODD(type, pointer) ((type)(void *)((char *)(pointer) + 1))

static void *no_memory(void *user, size_t bytes, size_t align) {
    (void)user, (void)bytes, (void)align;
    return NULL;
}

static long long block[512];
static void *crooked(void *user, size_t bytes, size_t align) {
    (void)user, (void)bytes, (void)align;
    return (char *)block + 4;
}

static void give_back(void *user, void *memory, size_t bytes) { (void)user, (void)memory, (void)bytes; }

static int stop(void *user, const dsv4_progress *progress) {
    (void)user;
    return progress->size != 0;
}

struct nested {
    dsv4_session *session;
    dsv4_status eval, free, rewind;
};

/* A callback that uses the session it is called from. */
static int nest(void *user, const dsv4_progress *progress) {
    struct nested *nested = user;
    uint32_t token = 1;
    (void)progress;
    nested->eval = dsv4_session_eval(nested->session, &token, 1, NULL, 0);
    nested->rewind = dsv4_session_rewind(nested->session, 0);
    nested->free = dsv4_session_free(nested->session);
    return 0;
}

int main(int argc, char **argv) {
    dsv4_model_params mp = {0};
    dsv4_session_params sp = {0};
    dsv4_sampler_params pp = {0};
    dsv4_tokenizer_params tp = {0};
    dsv4_allocator none = {0};
    dsv4_model_info info = {0};
    dsv4_tokenizer_info known = {0};
    dsv4_error error = {0};
    dsv4_model *model = NULL, *other = (dsv4_model *)&mp;
    dsv4_session *session = NULL;
    dsv4_sampler *sampler = NULL;
    dsv4_tokenizer *tokenizer = NULL;
    dsv4_stream stream = {{0}, 0};
    dsv4_bytes shard = {0};
    dsv4_log_prob top[4];
    dsv4_logit_bias bias = {0, 0};
    size_t n = 77, bytes = 77, rows;
    uint32_t token = 77, flags = 77, tokens[64] = {0};
    const char *piece = NULL;
    char text[64] = {0}, *memory;
    float *logits, value = 77;
    if (argc != 2) return 2;

    HOLDS(dsv4_abi_version() == DSV4_ABI_VERSION);
    HOLDS(strlen(dsv4_version()) > 0);
    HOLDS(!strcmp(dsv4_status_name(DSV4_OK), "DSV4_OK") && !strcmp(dsv4_status_name(-5), "unknown status"));

    /* Models: no parameters, no size, both sources, none, a file that is none, fields of the future. */
    EXPECT(BAD, dsv4_model_plan(NULL, &bytes, NULL));
    EXPECT(BAD, dsv4_model_plan(&mp, &bytes, NULL));
    EXPECT(BAD, dsv4_model_open(NULL, &model, NULL));
    EXPECT(BAD, dsv4_model_open_in(NULL, NULL, 0, &model, NULL));
    mp.size = sizeof mp;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    mp.path = "no such file.gguf";
    error.size = sizeof error;
    EXPECT(DSV4_IO, dsv4_model_open(&mp, &model, &error));
    HOLDS(error.status == DSV4_IO && error.os != 0 && strstr(error.message, "no such file.gguf"));
    EXPECT(DSV4_IO, dsv4_model_plan(&mp, &bytes, NULL));
    mp.path = argv[1];
    mp.shards = &shard;
    mp.n_shards = 1;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    mp.path = NULL;
    EXPECT(DSV4_TRUNCATED, dsv4_model_open(&mp, &model, NULL));
    shard.len = 100;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    mp.n_shards = (size_t)-1;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    shard.data = "GGUF but no more";
    shard.len = 16;
    mp.n_shards = 1;
    HOLDS(dsv4_model_open(&mp, &model, NULL) != DSV4_OK);
    mp.n_shards = 0;
    mp.shards = NULL;
    mp.path = argv[1];
    EXPECT(BAD, dsv4_model_plan(&mp, NULL, NULL));
    EXPECT(BAD, dsv4_model_plan(&mp, ODD(size_t *, &bytes), NULL));
    EXPECT(BAD, dsv4_model_plan(ODD(dsv4_model_params *, &mp), &bytes, NULL));
    EXPECT(BAD, dsv4_model_open(&mp, NULL, NULL));
    EXPECT(BAD, dsv4_model_open_in(&mp, NULL, 1 << 20, &model, NULL));
    {
        struct {
            dsv4_model_params known;
            size_t unknown;
        } future;
        memset(&future, 0, sizeof future);
        future.known.path = argv[1];
        future.known.size = sizeof future;
        future.unknown = 1;
        EXPECT(DSV4_UNSUPPORTED, dsv4_model_open(&future.known, &model, NULL));
        future.unknown = 0;
        EXPECT(DSV4_OK, dsv4_model_plan(&future.known, &bytes, NULL));
    }
    mp.progress = stop;
    EXPECT(DSV4_CANCELLED, dsv4_model_open(&mp, &model, &error));
    mp.progress = NULL;
    mp.allocator = &none;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    none.size = sizeof none;
    EXPECT(BAD, dsv4_model_open(&mp, &model, NULL));
    none.alloc = no_memory;
    none.free = give_back;
    EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_model_open(&mp, &model, &error));
    HOLDS(error.need == bytes);
    none.alloc = crooked;
    EXPECT(DSV4_MEMORY_MISALIGNED, dsv4_model_open(&mp, &model, NULL));
    mp.allocator = NULL;
    memory = malloc(bytes + 128);
    if (!memory) return 2;
    {
        char *aligned = memory + 64 - (uintptr_t)memory % 64;
        EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_model_open_in(&mp, aligned, bytes - 1, &model, NULL));
        EXPECT(DSV4_MEMORY_MISALIGNED, dsv4_model_open_in(&mp, aligned + 1, bytes, &model, NULL));
        HOLDS(model == NULL);
        /* Freed twice: its memory is ours, so that the second time can be told for certain. */
        EXPECT(DSV4_OK, dsv4_model_open_in(&mp, aligned, bytes, &model, NULL));
        EXPECT(DSV4_OK, dsv4_model_free(model));
        EXPECT(BAD, dsv4_model_free(model));
        EXPECT(BAD, dsv4_model_get_info(model, &info));
    }
    free(memory);
    EXPECT(DSV4_OK, dsv4_model_open(&mp, &model, NULL));
    EXPECT(BAD, dsv4_model_get_info(NULL, &info));
    EXPECT(BAD, dsv4_model_get_info(other, &info));
    EXPECT(BAD, dsv4_model_get_info(model, NULL));
    EXPECT(BAD, dsv4_model_get_info(model, &info));
    EXPECT(DSV4_OK, dsv4_model_last_error(model, &error));
    HOLDS(error.status == BAD);
    EXPECT(BAD, dsv4_model_last_error(NULL, &error));
    EXPECT(BAD, dsv4_model_last_error(model, NULL));
    info.size = offsetof(dsv4_model_info, context);
    EXPECT(DSV4_OK, dsv4_model_get_info(model, &info));
    HOLDS(info.vocab > 0 && info.context == 0 && info.size == offsetof(dsv4_model_info, context));
    info.size = sizeof info;
    EXPECT(DSV4_OK, dsv4_model_get_info(model, &info));
    HOLDS(info.context > 0);

    /* Tokenizers. */
    EXPECT(BAD, dsv4_tokenizer_plan(NULL, &bytes, NULL));
    EXPECT(BAD, dsv4_tokenizer_new(NULL, &tokenizer, NULL));
    EXPECT(BAD, dsv4_tokenizer_new_in(NULL, text, 1, &tokenizer, NULL));
    tp.size = sizeof tp;
    EXPECT(BAD, dsv4_tokenizer_new(&tp, &tokenizer, NULL));
    tp.model = other;
    EXPECT(BAD, dsv4_tokenizer_plan(&tp, &bytes, NULL));
    tp.model = model;
    tp.path = argv[1];
    EXPECT(BAD, dsv4_tokenizer_plan(&tp, &bytes, NULL));
    tp.path = NULL;
    tp.model = NULL;
    shard.data = "{\"model\": {}}";
    shard.len = 13;
    tp.file = &shard;
    HOLDS(dsv4_tokenizer_new(&tp, &tokenizer, NULL) != DSV4_OK);
    tp.file = NULL;
    tp.model = model;
    EXPECT(BAD, dsv4_tokenizer_new(&tp, NULL, NULL));
    EXPECT(BAD, dsv4_tokenizer_new_in(&tp, NULL, 1 << 20, &tokenizer, NULL));
    HOLDS(tokenizer == NULL);
    EXPECT(DSV4_OK, dsv4_tokenizer_new(&tp, &tokenizer, NULL));
    known.size = sizeof known;
    EXPECT(BAD, dsv4_tokenizer_get_info(NULL, &known));
    EXPECT(BAD, dsv4_tokenizer_get_info(tokenizer, NULL));
    EXPECT(BAD, dsv4_tokenizer_encode(NULL, "a", 1, 0, tokens, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_encode(tokenizer, NULL, 1, 0, tokens, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_encode(tokenizer, "a", (size_t)-1, 0, tokens, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_encode(tokenizer, "a", 1, 0, tokens, 64, NULL));
    EXPECT(BAD, dsv4_tokenizer_encode(tokenizer, "\xff", 1, 0, tokens, 64, &n));
    EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_tokenizer_encode(tokenizer, "a b", 3, 0, tokens, 1, &n));
    HOLDS(n == 77);
    EXPECT(DSV4_OK, dsv4_tokenizer_encode(tokenizer, "a b", 3, 0, NULL, 0, &n));
    HOLDS(n == 2);
    {
        /* Longer than the scratch on the stack: the allocator's. */
        static char word[20000];
        size_t count = 0, again = 0;
        uint32_t *ids = malloc(sizeof word * sizeof *ids);
        memset(word, 'a', sizeof word);
        EXPECT(DSV4_OK, dsv4_tokenizer_encode(tokenizer, word, sizeof word, 0, NULL, 0, &count));
        EXPECT(DSV4_OK, dsv4_tokenizer_encode(tokenizer, word, sizeof word, 0, ids, sizeof word, &again));
        HOLDS(count == again && count > 100);
        free(ids);
    }
    EXPECT(BAD, dsv4_tokenizer_decode(NULL, tokens, 1, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_decode(tokenizer, NULL, 1, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_decode(tokenizer, tokens, 1, text, 64, NULL));
    token = 1u << 30;
    EXPECT(DSV4_BAD_TOKEN, dsv4_tokenizer_decode(tokenizer, &token, 1, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_stream(NULL, &stream, 0, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_stream(tokenizer, NULL, 0, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_stream(tokenizer, &stream, 0, NULL, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_stream(tokenizer, &stream, 0, text, 64, NULL));
    EXPECT(DSV4_BAD_TOKEN, dsv4_tokenizer_stream(tokenizer, &stream, token, text, 64, &n));
    stream.len = 5;
    EXPECT(BAD, dsv4_tokenizer_stream(tokenizer, &stream, 0, text, 64, &n));
    EXPECT(BAD, dsv4_stream_end(&stream, text, 64, &n));
    stream.len = 1;
    stream.held[0] = 'a';
    EXPECT(BAD, dsv4_stream_end(&stream, text, 64, &n));
    stream.held[0] = 0xe2;
    EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_stream_end(&stream, text, 2, &n));
    EXPECT(DSV4_OK, dsv4_stream_end(&stream, text, 64, &n));
    HOLDS(n == 3 && stream.len == 0);
    EXPECT(BAD, dsv4_stream_end(NULL, text, 64, &n));
    EXPECT(BAD, dsv4_tokenizer_piece(NULL, 0, &piece, &n, &flags));
    EXPECT(BAD, dsv4_tokenizer_piece(tokenizer, 0, NULL, &n, &flags));
    EXPECT(DSV4_BAD_TOKEN, dsv4_tokenizer_piece(tokenizer, token, &piece, &n, &flags));
    HOLDS(flags == 77 && piece == NULL);
    EXPECT(BAD, dsv4_tokenizer_find(NULL, "a", 1, &token));
    EXPECT(BAD, dsv4_tokenizer_find(tokenizer, "a", 1, NULL));
    EXPECT(DSV4_BAD_TOKEN, dsv4_tokenizer_find(tokenizer, "no token is like this", 21, &token));
    EXPECT(DSV4_OK, dsv4_tokenizer_last_error(tokenizer, &error));
    HOLDS(error.status == DSV4_BAD_TOKEN);
    EXPECT(BAD, dsv4_tokenizer_last_error(NULL, &error));

    /* Sessions. */
    EXPECT(BAD, dsv4_session_plan(NULL, &sp, &bytes, NULL));
    EXPECT(BAD, dsv4_session_plan(model, &sp, &bytes, NULL));
    sp.size = sizeof sp;
    EXPECT(BAD, dsv4_session_plan(model, &sp, NULL, NULL));
    sp.context = info.context + 1;
    EXPECT(BAD, dsv4_session_plan(model, &sp, &bytes, &error));
    sp.context = 32;
    sp.batch = 33;
    EXPECT(BAD, dsv4_session_new(model, &sp, &session, &error));
    sp.batch = 4;
    sp.matmul = 9;
    EXPECT(BAD, dsv4_session_new(model, &sp, &session, &error));
    sp.matmul = DSV4_MATMUL_FAST;
    sp.cache = 9;
    EXPECT(BAD, dsv4_session_new(model, &sp, &session, &error));
    sp.cache = DSV4_CACHE_DEFAULT;
    EXPECT(BAD, dsv4_session_new(NULL, &sp, &session, NULL));
    EXPECT(BAD, dsv4_session_new((dsv4_model *)(void *)tokenizer, &sp, &session, NULL));
    EXPECT(BAD, dsv4_session_new(model, &sp, NULL, NULL));
    EXPECT(BAD, dsv4_session_new_in(model, &sp, NULL, 1 << 20, &session, NULL));
    HOLDS(session == NULL);
    EXPECT(DSV4_OK, dsv4_session_new(model, &sp, &session, NULL));
    EXPECT(DSV4_BUSY, dsv4_model_free(model));
    rows = 64 * info.vocab;
    logits = calloc(rows, sizeof *logits);
    if (!logits) return 2;
    EXPECT(BAD, dsv4_session_eval(NULL, tokens, 1, logits, info.vocab));
    EXPECT(BAD, dsv4_session_eval(session, NULL, 1, logits, info.vocab));
    EXPECT(BAD, dsv4_session_eval(session, tokens, 1, NULL, info.vocab));
    EXPECT(BAD, dsv4_session_eval(session, tokens, 1, logits, info.vocab - 1));
    EXPECT(BAD, dsv4_session_eval(session, tokens, 0, logits, info.vocab));
    EXPECT(BAD, dsv4_session_eval(session, ODD(uint32_t *, tokens), 1, logits, info.vocab));
    EXPECT(DSV4_CONTEXT_FULL, dsv4_session_eval(session, tokens, 33, logits, info.vocab));
    tokens[1] = (uint32_t)info.vocab;
    EXPECT(DSV4_BAD_TOKEN, dsv4_session_eval(session, tokens, 2, logits, info.vocab));
    tokens[1] = 0;
    EXPECT(DSV4_OK, dsv4_session_last_error(session, &error));
    HOLDS(error.status == DSV4_BAD_TOKEN);
    EXPECT(BAD, dsv4_session_last_error(NULL, &error));
    EXPECT(BAD, dsv4_session_position(NULL, &n));
    EXPECT(BAD, dsv4_session_position(session, NULL));
    EXPECT(DSV4_OK, dsv4_session_position(session, &n));
    HOLDS(n == 0);
    EXPECT(DSV4_OK, dsv4_session_eval(session, NULL, 0, NULL, 0));
    EXPECT(DSV4_OK, dsv4_session_eval(session, tokens, 6, logits, 6 * info.vocab));
    EXPECT(BAD, dsv4_session_cancel(NULL));
    EXPECT(DSV4_OK, dsv4_session_cancel(session));
    EXPECT(DSV4_CANCELLED, dsv4_session_eval(session, tokens, 1, logits, info.vocab));
    EXPECT(BAD, dsv4_session_set_progress(NULL, stop, NULL));
    EXPECT(DSV4_OK, dsv4_session_set_progress(session, stop, NULL));
    EXPECT(DSV4_CANCELLED, dsv4_session_eval(session, tokens, 1, logits, info.vocab));
    {
        struct nested nested = {0};
        nested.session = session;
        EXPECT(DSV4_OK, dsv4_session_set_progress(session, nest, &nested));
        EXPECT(DSV4_OK, dsv4_session_eval(session, tokens, 1, logits, info.vocab));
        HOLDS(nested.eval == DSV4_BUSY && nested.rewind == DSV4_BUSY && nested.free == DSV4_BUSY);
    }
    EXPECT(DSV4_OK, dsv4_session_set_progress(session, NULL, NULL));
    EXPECT(BAD, dsv4_session_tokens(NULL, tokens, 64, &n));
    EXPECT(BAD, dsv4_session_tokens(session, tokens, 64, NULL));
    EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_session_tokens(session, tokens, 6, &n));
    EXPECT(DSV4_OK, dsv4_session_tokens(session, NULL, 0, &n));
    HOLDS(n == 7);
    EXPECT(BAD, dsv4_session_keep_prefix(NULL, tokens, 1, &n));
    EXPECT(BAD, dsv4_session_keep_prefix(session, NULL, 1, &n));
    EXPECT(BAD, dsv4_session_keep_prefix(session, tokens, 1, NULL));
    EXPECT(BAD, dsv4_session_rewind(NULL, 0));
    EXPECT(BAD, dsv4_session_rewind(session, 8));
    {
        static char snapshot[1 << 20];
        size_t size = 0;
        dsv4_session *exact = NULL;
        EXPECT(BAD, dsv4_session_snapshot_size(NULL, &size));
        EXPECT(BAD, dsv4_session_snapshot_size(session, NULL));
        EXPECT(DSV4_OK, dsv4_session_snapshot_size(session, &size));
        HOLDS(size > 64 && size < sizeof snapshot);
        n = 77;
        EXPECT(BAD, dsv4_session_save(NULL, snapshot, sizeof snapshot, &n));
        EXPECT(BAD, dsv4_session_save(session, NULL, sizeof snapshot, &n));
        EXPECT(BAD, dsv4_session_save(session, snapshot, (size_t)-1, &n));
        EXPECT(BAD, dsv4_session_save(session, snapshot, sizeof snapshot, NULL));
        EXPECT(DSV4_MEMORY_TOO_SMALL, dsv4_session_save(session, snapshot, size - 1, &n));
        HOLDS(n == 77);
        EXPECT(DSV4_OK, dsv4_session_last_error(session, &error));
        HOLDS(error.need == size);
        EXPECT(DSV4_OK, dsv4_session_save(session, snapshot, size, &n));
        HOLDS(n == size);
        EXPECT(BAD, dsv4_session_restore(NULL, snapshot, size));
        EXPECT(BAD, dsv4_session_restore(session, NULL, size));
        EXPECT(BAD, dsv4_session_restore(session, snapshot, (size_t)-1));
        EXPECT(DSV4_NOT_SNAPSHOT, dsv4_session_restore(session, NULL, 0));
        EXPECT(DSV4_NOT_SNAPSHOT, dsv4_session_restore(session, "not a snapshot", 14));
        EXPECT(DSV4_SNAPSHOT_DAMAGED, dsv4_session_restore(session, snapshot, size - 1));
        snapshot[8]++;
        EXPECT(DSV4_UNSUPPORTED_SNAPSHOT, dsv4_session_restore(session, snapshot, size));
        snapshot[8]--;
        sp.matmul = DSV4_MATMUL_EXACT;
        EXPECT(DSV4_OK, dsv4_session_new(model, &sp, &exact, NULL));
        sp.matmul = DSV4_MATMUL_FAST;
        EXPECT(DSV4_SNAPSHOT_OF_OTHER_NUMBERS, dsv4_session_restore(exact, snapshot, size));
        EXPECT(DSV4_OK, dsv4_session_free(exact));
        EXPECT(DSV4_OK, dsv4_session_rewind(session, 0));
        EXPECT(DSV4_OK, dsv4_session_restore(session, snapshot, size));
        EXPECT(DSV4_OK, dsv4_session_position(session, &n));
        HOLDS(n == 7);
    }
    EXPECT(DSV4_OK, dsv4_session_rewind(session, 0));

    /* Samplers. */
    EXPECT(BAD, dsv4_sampler_plan(NULL, &bytes, NULL));
    EXPECT(BAD, dsv4_sampler_new(NULL, &sampler, NULL));
    EXPECT(BAD, dsv4_sampler_new_in(NULL, NULL, 0, &sampler, NULL));
    pp.size = sizeof pp;
    EXPECT(BAD, dsv4_sampler_plan(&pp, &bytes, NULL));
    pp.vocab = (size_t)-1;
    EXPECT(DSV4_TOO_LARGE, dsv4_sampler_plan(&pp, &bytes, NULL));
    pp.vocab = info.vocab;
    EXPECT(BAD, dsv4_sampler_plan(&pp, NULL, NULL));
    pp.temperature = -1;
    EXPECT(BAD, dsv4_sampler_new(&pp, &sampler, &error));
    HOLDS(strstr(error.message, "temperature"));
    pp.temperature = 0;
    EXPECT(BAD, dsv4_sampler_new(&pp, NULL, NULL));
    EXPECT(BAD, dsv4_sampler_new_in(&pp, NULL, 1 << 20, &sampler, NULL));
    EXPECT(DSV4_OK, dsv4_sampler_new(&pp, &sampler, NULL));
    n = info.vocab;
    EXPECT(BAD, dsv4_sampler_sample(NULL, logits, n, NULL, 0, NULL, 0, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, NULL, n, NULL, 0, NULL, 0, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, logits, 0, NULL, 0, NULL, 0, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, logits, n + 1, NULL, 0, NULL, 0, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, logits, n, NULL, 1, NULL, 0, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, logits, n, NULL, 0, NULL, 1, &token));
    EXPECT(BAD, dsv4_sampler_sample(sampler, logits, n, NULL, 0, NULL, 0, NULL));
    bias.token = (uint32_t)info.vocab;
    EXPECT(DSV4_BAD_TOKEN, dsv4_sampler_sample(sampler, logits, n, NULL, 0, &bias, 1, &token));
    bias.token = 3;
    bias.add = 1e9f;
    EXPECT(DSV4_OK, dsv4_sampler_sample(sampler, logits, n, tokens, 2, &bias, 1, &token));
    HOLDS(token == 3);
    EXPECT(BAD, dsv4_sampler_top(NULL, logits, n, top, 4, &rows));
    EXPECT(BAD, dsv4_sampler_top(sampler, NULL, n, top, 4, &rows));
    EXPECT(BAD, dsv4_sampler_top(sampler, logits, n, NULL, 4, &rows));
    EXPECT(BAD, dsv4_sampler_top(sampler, logits, n, top, 4, NULL));
    EXPECT(DSV4_OK, dsv4_sampler_top(sampler, logits, n, top, 4, &rows));
    HOLDS(rows == 4 && top[0].token == 3);
    EXPECT(BAD, dsv4_log_prob_of(NULL, n, 0, &value));
    EXPECT(BAD, dsv4_log_prob_of(logits, n, 0, NULL));
    EXPECT(DSV4_BAD_TOKEN, dsv4_log_prob_of(logits, n, (uint32_t)n, &value));
    HOLDS(value == 77);
    EXPECT(DSV4_OK, dsv4_log_prob_of(logits, n, 3, &value));
    HOLDS(value <= 0);
    EXPECT(DSV4_OK, dsv4_sampler_last_error(sampler, &error));
    HOLDS(error.status == BAD);
    EXPECT(BAD, dsv4_sampler_last_error(NULL, &error));

    /* Freeing: NULL is nothing, another kind is refused. */
    EXPECT(BAD, dsv4_sampler_free((dsv4_sampler *)(void *)session));
    EXPECT(BAD, dsv4_session_free((dsv4_session *)(void *)sampler));
    EXPECT(BAD, dsv4_tokenizer_free((dsv4_tokenizer *)(void *)sampler));
    EXPECT(BAD, dsv4_model_free((dsv4_model *)(void *)sampler));
    EXPECT(DSV4_OK, dsv4_sampler_free(NULL));
    EXPECT(DSV4_OK, dsv4_session_free(NULL));
    EXPECT(DSV4_OK, dsv4_tokenizer_free(NULL));
    EXPECT(DSV4_OK, dsv4_model_free(NULL));
    EXPECT(DSV4_OK, dsv4_sampler_free(sampler));
    EXPECT(DSV4_OK, dsv4_session_free(session));
    EXPECT(DSV4_OK, dsv4_model_free(model));
    /* It outlives the model that it came from. */
    EXPECT(DSV4_OK, dsv4_tokenizer_encode(tokenizer, "a", 1, 0, tokens, 64, &n));
    EXPECT(DSV4_OK, dsv4_tokenizer_free(tokenizer));
    free(logits);
    printf("%d failures\n", failures);
    return failures != 0;
}
