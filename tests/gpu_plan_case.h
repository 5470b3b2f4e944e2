/*
 * gpu_plan_case.h: what the GPU plan suite's files share: a hand-made store, and a fake GPU (fake_cuda.h) in a child process.
 */
#ifndef GPU_PLAN_CASE_H
#define GPU_PLAN_CASE_H

#include "child.h"
#include "compile.h"
#include "fake_cuda.h"
#include "folder.h"
#include "gpu.h"
#include "store.h"

#include <string.h>

/*
 * The kernels of a test's store, which of a stage and its _tma has one. Rows a block are nearly all different, so that no
 * grid is right by accident.
 */
struct gpu_plan_entry {
    const char *family, *stage;
    int threads, shared_bytes, block_m, block_n;
};
#define GPU_PLAN_ENTRIES 32
extern const struct gpu_plan_entry gpu_plan_entries[GPU_PLAN_ENTRIES];
bool gpu_plan_has(bool tma, const char *stage); /* a store with _tma stages, or one without: has it this one? */

/* How the store of a test is made. Zeros: one variant a family for sm_90a, bf16, head_dim 128, all with cubins. */
struct store_plan {
    const char *arch;        /* NULL: sm_90a */
    bool no_cubins;          /* sources only */
    bool no_sources;         /* neither */
    int abi;                 /* of score's variant; 0: this library's */
    const char *drop_stage;  /* no entry serves this */
    const char *odd_stage;   /* attend's entry serves this instead */
    int attend_shared;       /* bytes; 0: 100 KiB */
    const char *bad_cubin;   /* family whose cubin does not load */
    const char *bad_source;  /* family whose source does not compile */
    bool second_attend;      /* another of rank 1, and rank 0's is for another library */
    bool tma;                /* variants serve score_stats_tma, score_sum_tma and attend_tma */
    bool both_attends;       /* there is one of rank 1 that serves the other of the two */
    bool fp16;               /* score and attend are for fp16 */
    bool patterns;           /* it has the families of block patterns too */
    bool second_lists;       /* and of attend_blocks and pattern_lines another of rank 1 */
    bool maps;               /* it has the family of attention with an output map too */
};

struct gpu_bench {
    tamis_context *context;
    tamis_store *store;
    tamis_plan *plan;
    fake_cuda_counts_fn *counts; /* of the fake */
    fake_cuda_fail_fn *inject;
    fake_cuda_watch_fn *watch;
    fake_cuda_assume_fn *assume;
};

TCase *gpu_launch_case(void); /* check_gpu_launch.c */
TCase *gpu_threads_case(void); /* check_gpu_threads.c */
TCase *gpu_maps_case(void);   /* check_gpu_maps.c */
TCase *gpu_blocks_case(void); /* check_gpu_blocks.c */
TCase *gpu_patterns_case(void); /* check_gpu_patterns.c */
TCase *gpu_fault_case(void);  /* check_gpu_fault.c */
TCase *gpu_choice_case(void); /* check_gpu_choice.c */
TCase *gpu_lists_case(void);  /* check_gpu_lists.c */
TCase *gpu_output_map_case(void); /* check_gpu_output_map.c */

void gpu_plan_set_up(void); /* folder_remove clears up after it */
void gpu_plan_make_store(const struct store_plan *plan); /* a.tamis in the test's folder */

/* ---- in a child */

/* The fake libcuda, no NVRTC and a cache of the test's own; then pairs of name and value, ended by NULL. NULL: no more. */
void bench_environment(const char *const *settings);
void bench_fake(struct gpu_bench *bench); /* the fake's control functions */
void bench_open(struct gpu_bench *bench); /* context on GPU 0, and the store for writing */
void bench_close(struct gpu_bench *bench);
tamis_problem bench_problem(long long seq_len); /* 32 and 8 heads, head_dim 128, coverage 0.005 */
void bench_must(tamis_status status, const char *what);
void bench_expect_closed(const struct gpu_bench *bench); /* nothing is open and nothing was misused */

#endif
