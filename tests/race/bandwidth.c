// How fast this machine reads memory: the limit of anything that must read all its weights for every token.
//
//     cc -O3 -march=native -pthread bandwidth.c -o bandwidth
//     bandwidth THREADS SECONDS [FILE]
//
// Every thread sums its own part of the buffer, one pass after the other; a pass ends when the last thread has ended. Passes
// go three ways by turns: straight on, the same asking for what lies AHEAD, and asking ahead in four quarters side by side.
// Some processors are faster so (a Zen 3 by a sixth when asked), some are not. The buffer is MEGABYTES of anonymous memory,
// much more than any cache, or, given FILE, the file's mapping, which comes from the page cache. Prints one JSON object: the
// median pass of each way, in bytes a second, and of the fastest way the passes, the median and the best.

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MEGABYTES = 1024, MAX_PASSES = 100000, LANES = 8, AHEAD = 4096 };
enum way { PLAIN, ASKING, QUARTERS, WAYS };

// A cache line, wherever it lies.
typedef uint64_t lanes __attribute__((vector_size(8 * LANES), aligned(8), may_alias));

static const uint64_t *buffer;
static size_t words;
static int threads, passes[WAYS], running = 1;
static enum way way;
static double seconds, elapsed[WAYS][MAX_PASSES];
static pthread_barrier_t barrier;
static uint64_t sums[1024];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Independent sums, so that no addition waits for another one: loads alone set the pace. Four vectors by name, since GCC
// keeps an array of sums in memory (Zen 5: 23 instead of 41 GB/s).
static inline __attribute__((always_inline)) uint64_t sum(const uint64_t *p, size_t n, enum way way) {
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    const lanes *v = (const lanes *)p;
    // Four lines at a time: one after another, or one of each quarter.
    size_t quarter = n / LANES / 4, apart = way == QUARTERS ? quarter : 1, step = way == QUARTERS ? 1 : 4;
    for (size_t i = 0; i < quarter; i++, v += step) {
        for (size_t j = 0; way != PLAIN && j < 4; j++) __builtin_prefetch((const char *)(v + j * apart) + AHEAD, 0, 2);
        a += v[0];
        b += v[apart];
        c += v[2 * apart];
        d += v[3 * apart];
    }
    a += b + c + d;
    uint64_t total = 0;
    for (int j = 0; j < LANES; j++) total += a[j];
    return total;
}

static void *work(void *argument) {
    size_t self = (size_t)argument, part = words / (size_t)threads;
    const uint64_t *mine = buffer + self * part;
    sums[self] += sum(mine, part, PLAIN);  // the first pass brings the pages in
    double start = 0, first = 0;
    while (1) {
        pthread_barrier_wait(&barrier);
        if (self == 0) {
            double t = now();
            if (start > 0) {
                if (passes[way] < MAX_PASSES) elapsed[way][passes[way]++] = t - start;
                way = (way + 1) % WAYS;
            }
            if (first == 0) first = t;
            if (t - first >= seconds && passes[WAYS - 1] > 0) running = 0;
            start = now();
        }
        pthread_barrier_wait(&barrier);
        if (!running) return NULL;
        switch (way) {
        case ASKING: sums[self] += sum(mine, part, ASKING); break;
        case QUARTERS: sums[self] += sum(mine, part, QUARTERS); break;
        default: sums[self] += sum(mine, part, PLAIN);
        }
    }
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int fail(const char *what) {
    perror(what);
    return 1;
}

int main(int argc, char **argv) {
    threads = argc > 2 ? atoi(argv[1]) : 0;
    seconds = argc > 2 ? atof(argv[2]) : 0;
    if (threads < 1 || threads > 1024 || seconds <= 0) {
        fprintf(stderr, "usage: bandwidth THREADS SECONDS [FILE]\n");
        return 2;
    }
    size_t bytes = (size_t)MEGABYTES << 20;
    if (argc > 3) {
        int file = open(argv[3], O_RDONLY);
        struct stat about;
        if (file < 0 || fstat(file, &about) != 0) return fail(argv[3]);
        bytes = (size_t)about.st_size;
        void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
        if (map == MAP_FAILED) return fail(argv[3]);
        buffer = map;
    } else {
        void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) return fail("mmap");
#ifdef MADV_HUGEPAGE
        madvise(map, bytes, MADV_HUGEPAGE);
#endif
        memset(map, 1, bytes);
        buffer = map;
    }
    words = bytes / sizeof(uint64_t) / (size_t)threads * (size_t)threads;

    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    pthread_t handles[1024];
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&handles[i], NULL, work, (void *)(size_t)i) != 0) return fail("pthread_create");
    }
    for (int i = 0; i < threads; i++) pthread_join(handles[i], NULL);

    uint64_t total = 0;
    for (int i = 0; i < threads; i++) total += sums[i];
    double size = (double)words * sizeof(uint64_t), medians[WAYS];
    enum way fastest = PLAIN;
    for (int i = 0; i < WAYS; i++) {
        qsort(elapsed[i], (size_t)passes[i], sizeof(double), ascending);
        medians[i] = elapsed[i][passes[i] / 2];
        if (medians[i] < medians[fastest]) fastest = (enum way)i;
    }
    printf("{\"bytes\": %.0f, \"threads\": %d, \"plain\": %.0f, \"asking ahead\": %.0f, \"in quarters\": %.0f, "
           "\"passes\": %d, \"median\": %.0f, \"best\": %.0f, \"sum\": %llu}\n",
           size, threads, size / medians[PLAIN], size / medians[ASKING], size / medians[QUARTERS], passes[fastest],
           size / medians[fastest], size / elapsed[fastest][0], (unsigned long long)total);
    return 0;
}
