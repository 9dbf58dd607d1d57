/* What the machine allows, as a worker like the others: `run` answers, for each repetition, the seconds it takes to
 * read X once (again and again, so from the cache that it fits) and the seconds that the 4·m·n·K flops of the two
 * products take at the peak of fused multiply-adds. Nothing evaluates loss and gradient faster than the longer of them. */

#define _GNU_SOURCE
#include "protocol.h"
#include <omp.h>

#ifdef __AVX512F__
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif

typedef float f32_vector __attribute__((vector_size(VECTOR_BYTES)));
typedef double f64_vector __attribute__((vector_size(VECTOR_BYTES)));

/* Enough independent sums to hide the latency of two multiply-adds a cycle, few enough to stay in 16 registers. */
#define SUMS 12
/* Seconds each measurement takes at least. */
#define SHORTEST 0.01
/* Bytes read between two looks at the clock. */
#define BURST_BYTES (16L << 20)

/* Flops of `rounds` rounds of SUMS multiply-adds; the sums go to `sink` so that they cannot be left out. */
#define PEAK(name, vector, scalar)                                                                   \
    __attribute__((noinline)) static double name(long rounds, scalar factor, scalar term, scalar *sink) { \
        vector sums[SUMS], factors = factor - (vector){0}, terms = term - (vector){0};               \
        for (int s = 0; s < SUMS; s++) sums[s] = terms * (scalar)s;                                  \
        for (long round = 0; round < rounds; round++) {                                              \
            _Pragma("GCC unroll 12") for (int s = 0; s < SUMS; s++) sums[s] = sums[s] * factors + terms; \
        }                                                                                            \
        vector total = {0};                                                                          \
        for (int s = 0; s < SUMS; s++) total += sums[s];                                             \
        *sink = total[0];                                                                            \
        return 2.0 * rounds * SUMS * (sizeof(vector) / sizeof(scalar));                              \
    }

PEAK(peak_f32, f32_vector, float)
PEAK(peak_f64, f64_vector, double)

/* Reads every byte of memory, 16 vectors at a time. */
__attribute__((noinline)) static void read_all(const f32_vector *memory, long vectors, float *sink) {
    f32_vector sums[4] = {{0}};
    long i = 0;
    for (; i + 16 <= vectors; i += 16) {
        _Pragma("GCC unroll 16") for (int v = 0; v < 16; v++) sums[v % 4] += memory[i + v];
    }
    for (; i < vectors; i++) sums[0] += memory[i];
    f32_vector total = sums[0] + sums[1] + sums[2] + sums[3];
    *sink = total[0];
}

/* Flops per second of all threads together. */
static double flops_per_second(int threads, int is_f64) {
    double flops = 0, start = 0, seconds = 0;
    volatile double factor = 0.999999, term = 1e-6;
#pragma omp parallel num_threads(threads) reduction(+ : flops)
    {
        long rounds = 1 << 16;
        float f32_sink;
        double f64_sink;
#pragma omp barrier
#pragma omp single
        start = now();
        while (now() - start < SHORTEST)
            flops += is_f64 ? peak_f64(rounds, factor, term, &f64_sink) : peak_f32(rounds, factor, term, &f32_sink);
#pragma omp barrier
#pragma omp single
        seconds = now() - start;
    }
    return flops / seconds;
}

/* Seconds that all threads together take to read the memory once, each its part. */
static double seconds_to_read(int threads, const f32_vector *memory, long vectors) {
    double start = 0, seconds = 0;
    long passes = 0, bytes = vectors * VECTOR_BYTES;
    /* Passes between two looks at the clock. */
    long burst = 1 + BURST_BYTES / (bytes + 1);
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num();
        long first = vectors * me / threads, last = vectors * (me + 1) / threads;
        float sink;
#pragma omp barrier
#pragma omp single
        start = now();
        do {
            for (long pass = 0; pass < burst; pass++) read_all(memory + first, last - first, &sink);
#pragma omp barrier
#pragma omp single
            {
                passes += burst;
                seconds = now() - start;
            }
        } while (seconds < SHORTEST);
    }
    return seconds / passes;
}

int main(void) {
    static char line[8192];
    request_t r = {0};
    f32_vector *memory = NULL;
    long vectors = 0;
    while (fgets(line, sizeof line, stdin)) {
        int repetitions;
        if (strncmp(line, "prepare ", 8) == 0) {
            r = parse_prepare(line);
            long bytes = (long)r.m * r.n * (r.is_f64 ? 8 : 4);
            vectors = bytes / VECTOR_BYTES;
            free(memory);
            memory = aligned_alloc(VECTOR_BYTES, (vectors + 1) * VECTOR_BYTES);
            if (!memory) fail("no memory", line);
            memset(memory, 0, vectors * VECTOR_BYTES);
            printf("ready");
        } else if (sscanf(line, "run %d", &repetitions) == 1) {
            double flops = 4.0 * r.m * r.n * r.k;
            for (int i = 0; i < repetitions; i++)
                printf("%s%.9g %.9g", i ? " " : "", seconds_to_read(r.threads, memory, vectors),
                       flops / flops_per_second(r.threads, r.is_f64));
        } else {
            break;
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
