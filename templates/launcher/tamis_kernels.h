/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tamis_kernels.h: kernels that tamis generated, embedded, and a small launcher for them. It needs a C11 or C++17 compiler
 * to build, and the NVIDIA driver (CUDA 12.0 or newer) to run: no store, no NVRTC, no SQLite, no libtamis.
 *
 * What it does: choose the kernels for an architecture, dtype and head dim, load them into the current context, tell the
 * driver how much shared memory they take, and launch one stage on the grid that the caller gives.
 * What it does not: plan. Workspace, the order of stages, grids, tensor maps and the check of arguments are the caller's;
 * libtamis does all that. What each stage reads and writes is in kernel_args.h.
 *
 * The grid of a stage: B batch, Hq and Hkv query and KV heads, W the last queries, which score, N = L - W, C the capacity,
 * bm the stage's block_m. "t(x)" is x divided by bm, rounded up.
 *
 *     stage            arguments              grid
 *     score_stats      tamis_score_args       chunks, t(Hq / Hkv * W), B * Hkv
 *     score_stats_tma  tamis_score_tma_args   min(chunks * t(Hq / Hkv * W) * B * Hkv, multiprocessors), 1, 1
 *     score_merge      tamis_score_args       t(W), Hq, B
 *     score_sum        tamis_score_args       t(N), Hkv, B
 *     score_sum_tma    tamis_score_tma_args   min(t(N) * B * Hkv, multiprocessors), 1, 1
 *     select_pool      tamis_pool_args        t(N), B, 1
 *     select_budget    tamis_budget_args      1, B, 1
 *     select_tokens    tamis_tokens_args      1, index_heads, B
 *     compress         tamis_compress_args    t(C) * head_run, sum of the tensors' heads / head_run, B
 *     attend           tamis_attend_args      t(C), Hq, B
 *     attend_tma       tamis_attend_tma_args  min(t(C) * B * Hq, multiprocessors), 1, 1; counter set to 0 before
 *     decompress       tamis_decompress_args  t(L), Hq, B
 *
 * select_pool writes what select_budget would where a fixed budget is given. Lists longer than block_n, if that is not 0, are
 * faster shared by block_m blocks, which the launch must make one cluster: with cuLaunchKernelEx, not with this launcher.
 *
 * A stage whose name ends in _tma stands for the one without where the table has it; attend_tma, given indices, for decompress
 * without compact rows too. Their maps are made with cuTensorMapEncodeTiled: 16-bit elements, dimensions D, rows, heads,
 * batch, boxes of 64 by the tile's rows by 1 by 1, swizzle 128 bytes, L2 promotion 128 bytes, zeros outside. The tile's rows
 * are block_m for q of attend_tma and k of score_sum_tma, and block_n for the others.
 */
#ifndef TAMIS_KERNELS_H
#define TAMIS_KERNELS_H

#include "kernel_args.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TAMIS_KERNELS_BF16 = 0, TAMIS_KERNELS_FP16 = 1 };

/* What functions return: 0, a CUresult of the driver, or one of these. */
enum {
    TAMIS_KERNELS_NO_DRIVER = -1, /* libcuda.so.1 is not there, or older than CUDA 12.0 */
    TAMIS_KERNELS_NO_KERNEL = -2, /* the table has none for that */
    TAMIS_KERNELS_ARGUMENTS = -3  /* their size is not that of the stage's struct */
};
const char *tamis_kernels_error(int code); /* of those above; "error of the driver" for a CUresult */

/* A line of the table: a kernel, what it is for, and how it is launched. */
struct tamis_kernels_entry {
    const char *spec;    /* the model that it was made for */
    const char *family;  /* score, select, compress, attend, decompress */
    const char *variant; /* the kernels of one variant are in one cubin, and are loaded together */
    const char *arch;    /* "sm_90a" */
    const char *stage;
    const char *symbol;
    int dtype;        /* -1: any */
    int head_dim;     /* 0: any */
    int rank;         /* 0: the default */
    int threads;      /* a block */
    int shared_bytes; /* dynamic */
    int block_m;      /* rows a block handles */
    int block_n;      /* columns a step handles, or 0 */
    const unsigned long long *cubin;
};
extern const struct tamis_kernels_entry tamis_kernels_table[]; /* the better rank first */
extern const int tamis_kernels_count;

/*
 * The driver's functions that are used. Filled by tamis_kernels_open, or by a host that has the driver already, which may
 * convert cuLibraryLoadData and so on to these types: handles are pointers, CUresult and attributes are ints.
 */
struct tamis_kernels_driver {
    int (*library_load_data)(void **, const void *, void *, void *, unsigned, void *, void *, unsigned);
    int (*library_unload)(void *);
    int (*library_get_kernel)(void **, void *, const char *);
    int (*kernel_get_function)(void **, void *);
    int (*func_set_attribute)(void *, int, int);
    int (*launch_kernel)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **,
                         void **);
};
int tamis_kernels_open(struct tamis_kernels_driver *out); /* from libcuda.so.1, which stays open; cuInit is the caller's */

/* The architecture of the table whose kernels a device of this compute capability runs; NULL: none. */
const char *tamis_kernels_arch(int major, int minor);

/* Kernels in a context: one a stage. All zeros: none. Many threads may launch from one. */
struct tamis_kernels {
    struct tamis_kernels_driver driver;
    const struct tamis_kernels_entry *entries[16];
    void *functions[16];
    int count;
    void *libraries[16];
    int library_count;
};

/*
 * Load the best-ranked variant of each family for this architecture, dtype and head dim, of this spec or, NULL, of any, into
 * the current context. On failure nothing stays loaded.
 */
int tamis_kernels_load(struct tamis_kernels *out, const struct tamis_kernels_driver *driver, const char *spec,
                       const char *arch, int dtype, int head_dim);
void tamis_kernels_unload(struct tamis_kernels *kernels); /* in the context of the load; also of one that is all zeros */

/* The kernel that is loaded for a stage, from whose block_m the grid is made; NULL: none. */
const struct tamis_kernels_entry *tamis_kernels_find(const struct tamis_kernels *kernels, const char *stage);

/* Size of a stage's arguments; 0: no such stage. */
size_t tamis_kernels_args_bytes(const char *stage);

/* Put a stage on a stream, in the context of the load. `args` is the stage's struct of kernel_args.h; it is copied. */
int tamis_kernels_launch(const struct tamis_kernels *kernels, const char *stage, unsigned x, unsigned y, unsigned z,
                         void *args, size_t args_bytes, void *stream);

#ifdef __cplusplus
}
#endif

#endif
