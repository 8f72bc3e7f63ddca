// llama.cpp's logits of every token of a file, as `dsv4 logits` writes its own: [tokens, V] f32, row-major.
//
//     llama_logits MODEL.gguf TOKENS.i32 OUT.f32 [THREADS [CACHE [FLASH [TOKENS_A_CALL]]]]
//
// THREADS is 1 unless given; CACHE f32 (default), f16 or q8_0; FLASH off (default), on or auto; TOKENS_A_CALL at most
// 512, the size of one of llama.cpp's micro-batches, which is the default: 1 decodes token by token.
// setup.sh builds this against the libllama that it built.

#include "llama.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void only_complaints(enum ggml_log_level level, const char *text, void *data) {
    static bool loud;  // a continued line has no level of its own
    (void)data;
    if (level != GGML_LOG_LEVEL_CONT) loud = level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR;
    if (loud) fputs(text, stderr);
}

static int fail(const char *what) {
    fprintf(stderr, "llama_logits: %s\n", what);
    return 1;
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

int main(int argc, char **argv) {
    if (argc < 4) {
        fputs("usage: llama_logits MODEL.gguf TOKENS.i32 OUT.f32 [THREADS [CACHE [FLASH [TOKENS_A_CALL]]]]\n", stderr);
        return 2;
    }
    int threads = argc > 4 ? atoi(argv[4]) : 1, call = argc > 7 ? atoi(argv[7]) : 512;
    const char *cache = argc > 5 ? argv[5] : "f32", *flash = argc > 6 ? argv[6] : "off";
    if (threads < 1 || call < 1 || call > 512) return fail("THREADS or TOKENS_A_CALL out of range");

    FILE *file = fopen(argv[2], "rb");
    if (!file) return fail("no such token file");
    fseek(file, 0, SEEK_END);
    int count = (int)(ftell(file) / 4);
    rewind(file);
    int32_t *tokens = malloc(4 * (size_t)count + 4);
    if (!tokens || fread(tokens, 4, (size_t)count, file) != (size_t)count) return fail("the token file cannot be read");
    fclose(file);

    llama_log_set(only_complaints, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return fail("the model does not load");
    size_t vocab = (size_t)llama_vocab_n_tokens(llama_model_get_vocab(model));

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)count;
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = threads;
    params.type_k = params.type_v = is(cache, "f16") ? GGML_TYPE_F16 : is(cache, "q8_0") ? GGML_TYPE_Q8_0 : GGML_TYPE_F32;
    params.swa_full = false;
    params.flash_attn_type = is(flash, "on")     ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                             : is(flash, "auto") ? LLAMA_FLASH_ATTN_TYPE_AUTO
                                                 : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = llama_init_from_model(model, params);
    if (!context) return fail("no context");

    FILE *out = fopen(argv[3], "wb");
    if (!out) return fail("the output cannot be written");
    struct llama_batch batch = llama_batch_init(call, 0, 1);
    for (int start = 0; start < count; start += call) {
        batch.n_tokens = count - start < call ? count - start : call;
        for (int i = 0; i < batch.n_tokens; i++) {
            batch.token[i] = tokens[start + i];
            batch.pos[i] = start + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = true;
        }
        if (llama_decode(context, batch) != 0) return fail("llama_decode");
        for (int i = 0; i < batch.n_tokens; i++) {
            const float *row = llama_get_logits_ith(context, i);
            if (!row || fwrite(row, sizeof(float), vocab, out) != vocab) return fail("the output cannot be written");
        }
    }
    if (fclose(out) != 0) return fail("the output cannot be written");
    return 0;
}
