/* Loss and gradient of softmax regression as an expert would write them with MKL: blocks of samples that stay in cache,
 * MKL's products (plain, with Θ packed once, or generated for the exact shape), MKL's or glibc's vector exp, OpenMP.
 *
 *     scores of a block ─► softmax and residual, in place ─► gradient += X_blockᵀ·residual
 *
 * Layouts, block size, kind of product, exp and threading are chosen per problem by a search in `prepare`.
 * mkl_evaluate.inc holds the evaluation, for both precisions. */

#define _GNU_SOURCE
#include "protocol.h"
#include <math.h>
#include <mkl.h>
#include <omp.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Flops of an evaluation that a search times, and how often it goes over all choices. */
#define SEARCH_FLOPS 2e9
#define SEARCH_ROUNDS 3

typedef struct {
    int m, n, k, threads, with_input_gradient;
} problem_t;

/* Layout of Θ and the gradient (n×K or K×n), and of scores (samples×K or K×samples). */
typedef enum { BY_SAMPLE, BY_CLASS } layout_t;
typedef enum { THREADS_NONE, THREADS_BLOCKS, THREADS_PRODUCTS } threading_t;
typedef enum { FORWARD_PLAIN, FORWARD_PACKED, FORWARD_JIT } forward_t;
typedef enum { BACKWARD_PLAIN, BACKWARD_JIT } backward_t;
typedef enum { EXP_VML_HA, EXP_VML_LA, EXP_LIBMVEC } exponential_t;

/* How to evaluate a problem. */
typedef struct {
    layout_t scores, theta;
    threading_t threading;
    forward_t forward;
    backward_t backward;
    exponential_t exponential;
    int block;
} plan_t;

static const int BLOCKS[] = {32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096};

/* The choices of a search, in the order in which it makes them. */
enum {
    CHOOSE_BLOCK, CHOOSE_SCORES, CHOOSE_THETA, CHOOSE_FORWARD, CHOOSE_BACKWARD, CHOOSE_EXP, CHOOSE_THREADS, CHOICES
};

/* MKL generates kernels for small products only. */
static int can_generate(const problem_t *s) { return s->k <= 64; }

static int options_of(int choice, const problem_t *s) {
    switch (choice) {
    case CHOOSE_BLOCK: return sizeof BLOCKS / sizeof *BLOCKS;
    case CHOOSE_FORWARD: return can_generate(s) ? 3 : 2;
    case CHOOSE_BACKWARD: return can_generate(s) ? 2 : 1;
    case CHOOSE_EXP: return 3;
    case CHOOSE_THREADS: return s->threads == 1 ? 1 : 3;
    default: return 2;
    }
}

static plan_t with_option(plan_t plan, int choice, int option, const problem_t *s) {
    switch (choice) {
    case CHOOSE_BLOCK:
        /* Many classes want large products: do not waste time on small blocks. */
        if (s->k <= 64 || BLOCKS[option] >= 128) plan.block = MIN(BLOCKS[option], s->m);
        break;
    case CHOOSE_SCORES: plan.scores = option; break;
    case CHOOSE_THETA: plan.theta = option; break;
    case CHOOSE_FORWARD: plan.forward = option; break;
    case CHOOSE_BACKWARD: plan.backward = option; break;
    case CHOOSE_EXP: plan.exponential = option; break;
    case CHOOSE_THREADS: plan.threading = option; break;
    }
    return plan;
}

static int same_plan(const plan_t *a, const plan_t *b) { return memcmp(a, b, sizeof *a) == 0; }

static void describe_plan(const plan_t *p) {
    static const char *const layouts[] = {"by sample", "by class"}, *const threads[] = {"none", "blocks", "products"},
                             *const forward[] = {"plain", "packed", "generated"},
                             *const exponentials[] = {"VML HA", "VML LA", "libmvec"};
    fprintf(stderr, "choice: block %d, scores %s, theta %s, forward %s, backward %s, exp %s, threads over %s\n", p->block,
            layouts[p->scores], layouts[p->theta], forward[p->forward], forward[p->backward ? 2 : 0],
            exponentials[p->exponential], threads[p->threading]);
}

/* MKL asks this whether it may take its fast paths; by itself it answers no on processors of other makers, where small
 * products then take twice as long. It needs the symbol exported (-rdynamic). */
int mkl_serv_intel_cpu_true(void) { return 1; }

/* Rows of scores that fit half of a first-level cache. */
static int group_rows(int k, size_t item) { return MAX(1, (int)(16384 / (k * item))); }

static void *aligned(long bytes) {
    void *memory = mkl_malloc(bytes, 64);
    if (!memory) fail("no memory", "aligned");
    memset(memory, 0, bytes);
    return memory;
}

static void *read_file(const char *directory, const char *name, long bytes) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    void *memory = aligned(bytes);
    if (!file || fread(memory, 1, bytes, file) != (size_t)bytes) fail("cannot read", path);
    fclose(file);
    return memory;
}

#define REAL float
#define NAME(x) x##_f32
#define GEMM cblas_sgemm
#define GEMM_PACK cblas_sgemm_pack
#define GEMM_PACK_SIZE cblas_sgemm_pack_get_size
#define GEMM_COMPUTE cblas_sgemm_compute
#define JIT_CREATE mkl_jit_create_sgemm
#define JIT_GET mkl_jit_get_sgemm_ptr
#define VML_EXP vmsExp
#define STD_EXP expf
#define STD_LOG logf
#include "mkl_evaluate.inc"
#undef REAL
#undef NAME
#undef GEMM
#undef GEMM_PACK
#undef GEMM_PACK_SIZE
#undef GEMM_COMPUTE
#undef JIT_CREATE
#undef JIT_GET
#undef VML_EXP
#undef STD_EXP
#undef STD_LOG

#define REAL double
#define NAME(x) x##_f64
#define GEMM cblas_dgemm
#define GEMM_PACK cblas_dgemm_pack
#define GEMM_PACK_SIZE cblas_dgemm_pack_get_size
#define GEMM_COMPUTE cblas_dgemm_compute
#define JIT_CREATE mkl_jit_create_dgemm
#define JIT_GET mkl_jit_get_dgemm_ptr
#define VML_EXP vmdExp
#define STD_EXP exp
#define STD_LOG log
#include "mkl_evaluate.inc"

int main(void) {
    static char line[8192];
    state_f32 *f32 = NULL;
    state_f64 *f64 = NULL;
    while (fgets(line, sizeof line, stdin)) {
        char path[4096];
        int repetitions;
        if (strncmp(line, "prepare ", 8) == 0) {
            request_t r = parse_prepare(line);
            problem_t size = {r.m, r.n, r.k, r.threads, r.with_input_gradient};
            if (f32) release_f32(f32);
            if (f64) release_f64(f64);
            f32 = r.is_f64 ? NULL : prepare_f32(r.directory, size);
            f64 = r.is_f64 ? prepare_f64(r.directory, size) : NULL;
            printf("ready");
        } else if (sscanf(line, "run %d", &repetitions) == 1) {
            if (f64) run_f64(f64, repetitions);
            else run_f32(f32, repetitions);
        } else if (sscanf(line, "result %4095s", path) == 1) {
            FILE *file = fopen(path, "wb");
            if (!file) fail("cannot write", path);
            if (f64) write_result_f64(f64, file);
            else write_result_f32(f32, file);
            fclose(file);
            printf("ok");
        } else {
            break;
        }
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
