/*
 * gpu_launch_case.h: what the GPU plan suite's files on launches share: problems up to 2^24 tokens, what each kernel that was
 * launched got, and what it must have got.
 *
 * Tensors are addresses alone: nothing here, nor in the code under test, looks at what lies there.
 */
#ifndef GPU_LAUNCH_CASE_H
#define GPU_LAUNCH_CASE_H

#include "gpu_plan_case.h"

#include <stdint.h>

#define LAUNCHES_MAX 16

/* As it was seen, with its arguments. */
struct launch {
    char stage[32];
    unsigned grid[3], cluster[3], threads, shared_bytes;
    void *stream;
    union {
        struct tamis_score_args score;
        struct tamis_score_tma_args score_tma;
        struct tamis_pool_args pool;
        struct tamis_budget_args budget;
        struct tamis_tokens_args tokens;
        struct tamis_compress_args compress;
        struct tamis_attend_args attend;
        struct tamis_attend_tma_args attend_tma;
        struct tamis_decompress_args decompress;
    } args;
};

/* In a child: all since launch_open or the last launch_expect. */
extern struct launched {
    int count;
    struct launch list[LAUNCHES_MAX];
    long blocking; /* calls up to when the plan was made */
    bool tma;      /* the store's kernels are the _tma ones; a test sets it */
} launched;

/* The tensors' addresses, far apart. */
#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_LSE, AT_SCORE, AT_KEPT, AT_INDICES, AT_WORKSPACE, AT_RANK, AT_MEAN, AT_COMPACT };

tamis_tensor launch_tensor(int number, const tamis_problem *problem, int heads, long long rows); /* (B, heads, rows, D) at AT */
tamis_run_args launch_args(const tamis_problem *problem); /* Q, K, V and output */

struct launch_shape {
    long long seq_len;
    int batch, q_heads, kv_heads;
    tamis_scope scope;
    tamis_policy policy;
    int window;
    bool dense;
    tamis_mask mask;
};
#define LAUNCH_SHAPES 15
extern const struct launch_shape launch_shapes[LAUNCH_SHAPES];
tamis_problem launch_problem(const struct launch_shape *shape);
void launch_open(struct gpu_bench *bench, const struct launch_shape *shape); /* with its plan */

#define SCORE_STAGES "score_stats score_merge score_sum select_pool"
#define SELECT_STAGES "select_budget select_tokens"

const char *launch_sparse_stages(const tamis_plan *plan); /* what tamis_run launches if the problem is not dense */
bool launch_keeps_fixed(const tamis_plan *plan);         /* Is it known before a run how many tokens are kept? */

/* Everything launched since the last such call, and nothing else; of a stage and its _tma the one that the store has. */
void launch_expect(const struct gpu_bench *bench, const char *stages, const char *what);

#endif
