/*
 * What `dsv4 bench` measures, from C: the same tokens, context, threads and batches.
 *
 *     bench MODEL.gguf PREFILL DECODE THREADS      prints tokens a second of prefill and of decoding
 */
#define _POSIX_C_SOURCE 199309L
#include <dsv4.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* SplitMix64, as the command uses it. */
static uint64_t random_bits(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

int main(int argc, char **argv) {
    dsv4_model_params mp = {0};
    dsv4_session_params sp = {0};
    dsv4_model_info info = {0};
    dsv4_model *model = NULL;
    dsv4_session *session = NULL;
    size_t prefill, decode, i;
    uint64_t state = 0;
    uint32_t *tokens;
    float *logits;
    double start, middle, end;
    dsv4_status status;
    if (argc != 5) return 2;
    prefill = strtoul(argv[2], NULL, 10);
    decode = strtoul(argv[3], NULL, 10);
    mp.size = sizeof mp;
    mp.path = argv[1];
    mp.threads = (uint32_t)strtoul(argv[4], NULL, 10);
    status = dsv4_model_open(&mp, &model, NULL);
    info.size = sizeof info;
    if (status == DSV4_OK) status = dsv4_model_get_info(model, &info);
    sp.size = sizeof sp;
    sp.context = prefill + decode;
    sp.batch = sp.context < 512 ? sp.context : 512; /* as the command's default */
    if (status == DSV4_OK) status = dsv4_session_new(model, &sp, &session, NULL);
    tokens = malloc((prefill + decode) * sizeof *tokens);
    logits = malloc((info.vocab + 1) * sizeof *logits);
    if (status != DSV4_OK || !tokens || !logits) return 1;
    for (i = 0; i < prefill + decode; i++) tokens[i] = (uint32_t)(random_bits(&state) % info.vocab);

    /* Threads start and memory comes in before the clock runs. */
    status = dsv4_session_eval(session, tokens, sp.batch, logits, info.vocab);
    if (status == DSV4_OK) status = dsv4_session_rewind(session, 0);
    start = now();
    if (status == DSV4_OK) status = dsv4_session_eval(session, tokens, prefill, logits, info.vocab);
    middle = now();
    for (i = prefill; status == DSV4_OK && i < prefill + decode; i++)
        status = dsv4_session_eval(session, tokens + i, 1, logits, info.vocab);
    end = now();
    if (status != DSV4_OK) {
        fprintf(stderr, "%s\n", dsv4_status_name(status));
        return 1;
    }
    printf("%.1f %.1f\n", (double)prefill / (middle - start), (double)decode / (end - middle));
    free(logits);
    free(tokens);
    dsv4_session_free(session);
    return dsv4_model_free(model) != DSV4_OK;
}
