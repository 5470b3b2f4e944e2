/*
 * check_gpu.h: what check_gpu.c shares with the checks that report by themselves, one line a problem.
 */
#ifndef CHECK_GPU_H
#define CHECK_GPU_H

#include "gpu_case.h"

extern tamis_context *gpu_context;
extern tamis_store *gpu_store; /* NULL on the CPU backend */

void gpu_report(bool ok, const char *name); /* prints the line of a check, and counts it */
unsigned long long gpu_next_seed(void);     /* another one a call: what a problem's inputs are hangs on those before it */

tamis_problem gpu_make_problem(tamis_dtype dtype, int batch, int q_heads, int kv_heads, long long seq_len, int head_dim);
void gpu_problem_name(char *out, size_t size, const tamis_problem *p, const char *what);

/* gpu_check_shapes.c. The operator against its definition, and a second time to the same bits. */
void gpu_shapes_small(void);
void gpu_shapes_few(void); /* enough that a kernel that is wrong fails */
void gpu_shapes_lengths(long long longest); /* those up to it, as in the next */
void gpu_shapes_masks(long long longest);
void gpu_shapes_selections(void);
void gpu_shapes_growth(long long seq_len, int samples, int first, int step); /* of 16 each `step`th from `first` on */
void gpu_shapes_large(void);

#endif
