/*
 * The strict way: a freestanding C99 program (no header but the compiler's own) whose model lies in the program and whose
 * memory is one static array. It generates a few tokens greedily and gives them to `result`; hooks.c, which has a C
 * library, prints them and proves that nothing was allocated.
 */
#include <dsv4.h>

#include "static.h"

/* The model's bytes, linked in as they are. */
extern const unsigned char _binary_model_gguf_start[], _binary_model_gguf_end[];

enum { MEMORY = 48 << 20, VOCAB = 4096, PROMPT = 512 };

static struct {
    union {
        unsigned char bytes[MEMORY];
        long long align;
    } raw;
    size_t used;
} arena;

/* `bytes` bytes at a multiple of 64. */
static void *take(size_t bytes) {
    uintptr_t start = ((uintptr_t)arena.raw.bytes + arena.used + 63) / 64 * 64;
    size_t end = start - (uintptr_t)arena.raw.bytes + bytes;
    if (bytes > MEMORY || end > MEMORY) return NULL;
    arena.used = end;
    return (void *)start;
}

static float logits[VOCAB];
static uint32_t tokens[PROMPT];

static size_t length(const char *text) {
    size_t n = 0;
    while (text[n]) n++;
    return n;
}

/* The caller's threads, as far as a program without an operating system has any: the calling one. */
static void in_turn(void *user, size_t n, void (*task)(void *context), void *context) {
    (void)user;
    while (n--) task(context);
}

int run_static(const char *prompt, size_t most) {
    dsv4_bytes file;
    dsv4_model_params params = {0};
    dsv4_tokenizer_params from = {0};
    dsv4_session_params small = {0};
    dsv4_sampler_params greedy = {0};
    dsv4_model_info info = {0};
    dsv4_model *model;
    dsv4_tokenizer *tokenizer;
    dsv4_session *session;
    dsv4_sampler *sampler;
    dsv4_stream stream = {{0}, 0};
    size_t bytes, n, i;
    dsv4_status status;

    arena.used = 0;
    file.data = _binary_model_gguf_start;
    file.len = (size_t)(_binary_model_gguf_end - _binary_model_gguf_start);
    params.size = sizeof params;
    params.shards = &file;
    params.n_shards = 1;
    params.threads = 1;
    params.parallel = in_turn;
    if ((status = dsv4_model_plan(&params, &bytes, NULL)) != DSV4_OK) return status;
    if ((status = dsv4_model_open_in(&params, take(bytes), bytes, &model, NULL)) != DSV4_OK) return status;
    info.size = sizeof info;
    if ((status = dsv4_model_get_info(model, &info)) != DSV4_OK) return status;
    if (info.vocab > VOCAB) return DSV4_MEMORY_TOO_SMALL;

    from.size = sizeof from;
    from.model = model;
    if ((status = dsv4_tokenizer_plan(&from, &bytes, NULL)) != DSV4_OK) return status;
    if ((status = dsv4_tokenizer_new_in(&from, take(bytes), bytes, &tokenizer, NULL)) != DSV4_OK) return status;

    small.size = sizeof small;
    small.context = PROMPT;
    small.batch = 32;
    if ((status = dsv4_session_plan(model, &small, &bytes, NULL)) != DSV4_OK) return status;
    if ((status = dsv4_session_new_in(model, &small, take(bytes), bytes, &session, NULL)) != DSV4_OK) return status;

    greedy.size = sizeof greedy;
    greedy.vocab = info.vocab;
    if ((status = dsv4_sampler_plan(&greedy, &bytes, NULL)) != DSV4_OK) return status;
    if ((status = dsv4_sampler_new_in(&greedy, take(bytes), bytes, &sampler, NULL)) != DSV4_OK) return status;

    status = dsv4_tokenizer_encode(tokenizer, prompt, length(prompt), 1, tokens, PROMPT, &n);
    if (status == DSV4_OK) status = dsv4_session_eval(session, tokens, n, logits, info.vocab);
    for (i = 0; status == DSV4_OK && i < most; i++) {
        static char text[4096];
        uint32_t token;
        status = dsv4_sampler_sample(sampler, logits, info.vocab, NULL, 0, NULL, 0, &token);
        if (status == DSV4_OK) status = dsv4_tokenizer_stream(tokenizer, &stream, token, text, sizeof text, &n);
        if (status == DSV4_OK) {
            result(token, text, n);
            status = dsv4_session_eval(session, &token, 1, logits, info.vocab);
        }
    }
    if (status == DSV4_OK && dsv4_model_free(model) != DSV4_BUSY) status = DSV4_BAD_ARGUMENT;
    dsv4_sampler_free(sampler);
    dsv4_session_free(session);
    dsv4_tokenizer_free(tokenizer);
    if (dsv4_model_free(model) != DSV4_OK) return DSV4_BUSY;
    return status;
}
