/*
 * Runs static.c and counts what the C library's allocator is asked for meanwhile: nothing. The linker leads every such
 * call, the Rust library's included, here (--wrap).
 *
 *     static PROMPT TOKENS
 */
#include "static.h"

#include <stdio.h>
#include <stdlib.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
int __real_posix_memalign(void **memory, size_t align, size_t bytes);
void *__real_aligned_alloc(size_t align, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes);
void *__wrap_aligned_alloc(size_t align, size_t bytes);

static int calls;

void *__wrap_malloc(size_t bytes) {
    calls++;
    return __real_malloc(bytes);
}
void *__wrap_calloc(size_t n, size_t bytes) {
    calls++;
    return __real_calloc(n, bytes);
}
void *__wrap_realloc(void *memory, size_t bytes) {
    calls++;
    return __real_realloc(memory, bytes);
}
int __wrap_posix_memalign(void **memory, size_t align, size_t bytes) {
    calls++;
    return __real_posix_memalign(memory, align, bytes);
}
void *__wrap_aligned_alloc(size_t align, size_t bytes) {
    calls++;
    return __real_aligned_alloc(align, bytes);
}

static char text[1 << 16];
static size_t written;

void result(uint32_t token, const char *piece, size_t len) {
    size_t i;
    (void)token;
    for (i = 0; i < len && written < sizeof text; i++) text[written++] = piece[i];
}

int main(int argc, char **argv) {
    int status, counted, proof;
    void *volatile some;
    if (argc != 3) return 2;
    /* That the counter counts. */
    some = malloc((size_t)argc);
    free(some);
    proof = calls;
    status = run_static(argv[1], strtoul(argv[2], NULL, 10));
    counted = calls - proof;
    fwrite(text, 1, written, stdout);
    putchar('\n');
    if (status != 0 || proof != 1 || counted != 0) {
        fprintf(stderr, "status %d, %d allocations (and %d of our own)\n", status, counted, proof);
        return 1;
    }
    return 0;
}
