/*
 * The simple way in C99: opens a model, tells what it takes, and answers one prompt word by word. Ctrl-C stops the
 * answer, and what was evaluated stays: the program goes on from there.
 *
 *     chat MODEL.gguf PROMPT [TOKENS [FILE]]
 *
 * With a FILE, the conversation that it holds goes on, if it exists; and at the end it holds this one. An empty PROMPT has the
 * last answer go on.
 */
#include <dsv4.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static dsv4_session *running;

static void interrupted(int number) {
    (void)number;
    dsv4_session_cancel(running);
}

static void log_line(void *user, int level, const char *message) {
    (void)user;
    fprintf(stderr, "[%d] %s\n", level, message);
}

static int fail(dsv4_status status, const dsv4_error *error) {
    fprintf(stderr, "%s: %s\n", dsv4_status_name(status), error->message);
    return 1;
}

/* Makes `session` what the file holds. A file that does not exist leaves it empty. */
static dsv4_status restore(dsv4_session *session, const char *path) {
    dsv4_status status = DSV4_IO;
    FILE *file = fopen(path, "rb");
    char *bytes = NULL;
    long size = -1;
    if (!file) return DSV4_OK;
    if (fseek(file, 0, SEEK_END) == 0) size = ftell(file);
    if (size >= 0) bytes = malloc((size_t)size + 1);
    if (bytes && fseek(file, 0, SEEK_SET) == 0 && fread(bytes, 1, (size_t)size, file) == (size_t)size)
        status = dsv4_session_restore(session, bytes, (size_t)size);
    free(bytes);
    fclose(file);
    return status;
}

static dsv4_status save(const dsv4_session *session, const char *path) {
    size_t size = 0;
    char *bytes = NULL;
    FILE *file;
    dsv4_status status = dsv4_session_snapshot_size(session, &size);
    if (status == DSV4_OK && !(bytes = malloc(size))) status = DSV4_MEMORY_TOO_SMALL;
    if (status == DSV4_OK) status = dsv4_session_save(session, bytes, size, &size);
    if (status == DSV4_OK) {
        file = fopen(path, "wb");
        if (!file || fwrite(bytes, 1, size, file) != size) status = DSV4_IO;
        if (file && fclose(file) != 0) status = DSV4_IO;
    }
    free(bytes);
    return status;
}

static int chat(const dsv4_model *model, const dsv4_tokenizer *tokenizer, const char *prompt, size_t most,
                const char *path) {
    dsv4_error error = {0};
    dsv4_model_info info = {0};
    dsv4_session_params params = {0};
    dsv4_sampler_params greedy = {0};
    dsv4_session *session = NULL;
    dsv4_sampler *sampler = NULL;
    dsv4_stream stream = {{0}, 0};
    float *logits = NULL;
    char *text = NULL;
    uint32_t *tokens = NULL, end = DSV4_NO_TOKEN;
    size_t n_tokens = 0, made = 0, bytes = 0, position = 0;
    dsv4_status status;

    error.size = sizeof error;
    info.size = sizeof info;
    status = dsv4_model_get_info(model, &info);

    params.size = sizeof params;
    params.context = info.context < 2048 ? info.context : 2048;
    if (status == DSV4_OK) status = dsv4_session_plan(model, &params, &bytes, &error);
    if (status == DSV4_OK) status = dsv4_session_new(model, &params, &session, &error);
    greedy.size = sizeof greedy;
    greedy.vocab = info.vocab;
    if (status == DSV4_OK) status = dsv4_sampler_new(&greedy, &sampler, &error);
    if (status != DSV4_OK) goto done;
    fprintf(stderr, "%llu bytes of weights, %llu for the model, %llu for the session\n",
            (unsigned long long)info.weight_bytes, (unsigned long long)info.memory_bytes, (unsigned long long)bytes);

    if (path) status = restore(session, path);
    if (status == DSV4_OK) status = dsv4_session_position(session, &position);
    if (status != DSV4_OK) goto done;

    /* A program writes the structure, so its tokens are recognized; what a stranger says is encoded apart. */
    text = malloc(strlen(prompt) + 128);
    tokens = malloc((strlen(prompt) + 128) * sizeof *tokens);
    logits = malloc(info.vocab * sizeof *logits);
    if (!text || !tokens || !logits) { status = DSV4_MEMORY_TOO_SMALL; goto done; }
    if (position > 0 && !*prompt) {
        /* The last token once more, for its logits. */
        uint32_t *held = malloc(position * sizeof *held);
        status = held ? dsv4_session_tokens(session, held, position, &n_tokens) : DSV4_MEMORY_TOO_SMALL;
        if (status == DSV4_OK) status = dsv4_session_rewind(session, position - 1);
        if (status == DSV4_OK) tokens[0] = held[position - 1];
        n_tokens = 1;
        free(held);
    } else {
        const char *before = position > 0 ? "<｜end▁of▁sentence｜><｜User｜>" : "<｜begin▁of▁sentence｜><｜User｜>";
        const char *after = "<｜Assistant｜></think>";
        size_t capacity = strlen(prompt) + 128, n = 0;
        status = dsv4_tokenizer_encode(tokenizer, before, strlen(before), 1, tokens, capacity, &n);
        n_tokens = n;
        if (status == DSV4_OK)
            status = dsv4_tokenizer_encode(tokenizer, prompt, strlen(prompt), 0, tokens + n_tokens,
                                           capacity - n_tokens, &n);
        n_tokens += n;
        if (status == DSV4_OK)
            status = dsv4_tokenizer_encode(tokenizer, after, strlen(after), 1, tokens + n_tokens,
                                           capacity - n_tokens, &n);
        n_tokens += n;
    }
    {
        dsv4_tokenizer_info known = {0};
        known.size = sizeof known;
        if (status == DSV4_OK) status = dsv4_tokenizer_get_info(tokenizer, &known);
        end = known.eos;
    }

    running = session;
    signal(SIGINT, interrupted);
    if (status == DSV4_OK) status = dsv4_session_eval(session, tokens, n_tokens, logits, info.vocab);
    while (status == DSV4_OK && made < most) {
        uint32_t token = 0;
        char piece[4096];
        size_t len = 0;
        status = dsv4_sampler_sample(sampler, logits, info.vocab, NULL, 0, NULL, 0, &token);
        if (status != DSV4_OK || token == end) break;
        made++;
        status = dsv4_tokenizer_stream(tokenizer, &stream, token, piece, sizeof piece, &len);
        if (status != DSV4_OK) break;
        fwrite(piece, 1, len, stdout);
        fflush(stdout);
        status = dsv4_session_eval(session, &token, 1, logits, info.vocab);
    }
    {
        char rest[4];
        size_t len = 0;
        if (dsv4_stream_end(&stream, rest, sizeof rest, &len) == DSV4_OK) fwrite(rest, 1, len, stdout);
    }
    putchar('\n');
    signal(SIGINT, SIG_DFL);
    if (status == DSV4_CANCELLED) {
        status = dsv4_session_position(session, &position);
        fprintf(stderr, "cancelled: %llu tokens stay\n", (unsigned long long)position);
    }
    if (status == DSV4_OK && path) status = save(session, path);

done:
    if (status != DSV4_OK) {
        if (session && error.status == 0) dsv4_session_last_error(session, &error);
        fail(status, &error);
    }
    free(logits);
    free(tokens);
    free(text);
    dsv4_sampler_free(sampler);
    dsv4_session_free(session);
    return status != DSV4_OK;
}

int main(int argc, char **argv) {
    dsv4_error error = {0};
    dsv4_model_params params = {0};
    dsv4_tokenizer_params of = {0};
    dsv4_model *model = NULL;
    dsv4_tokenizer *tokenizer = NULL;
    dsv4_status status;
    int failed;

    if (argc < 3) {
        fprintf(stderr, "usage: chat MODEL.gguf PROMPT [TOKENS [FILE]]\n");
        return 2;
    }
    error.size = sizeof error;
    params.size = sizeof params;
    params.path = argv[1];
    params.log = log_line;
    status = dsv4_model_open(&params, &model, &error);
    if (status != DSV4_OK) return fail(status, &error);
    of.size = sizeof of;
    of.model = model;
    status = dsv4_tokenizer_new(&of, &tokenizer, &error);
    failed = status == DSV4_OK ? chat(model, tokenizer, argv[2], argc > 3 ? strtoul(argv[3], NULL, 10) : 256,
                                      argc > 4 ? argv[4] : NULL)
                               : fail(status, &error);
    dsv4_tokenizer_free(tokenizer);
    dsv4_model_free(model);
    return failed;
}
