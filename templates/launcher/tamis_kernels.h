/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tamis_kernels.h: kernels that tamis generated, embedded, and a small launcher for them. It needs a C11 or C++17 compiler
 * to build, and the NVIDIA driver (CUDA 12.0 or newer) to run: no store, no NVRTC, no SQLite, no libtamis.
 *
 * What it does: choose the kernels for an architecture, dtype and head dim, load them into the current context, tell the
 * driver how much shared memory they take, and launch one stage on the grid that the caller gives; or those stages in their
 * order that make the lists of a block pattern. And it makes tensor maps.
 * What it does not: plan. Workspace, the order of the other stages, their grids and the check of arguments are the caller's;
 * libtamis does all that. What each stage reads and writes is in kernel_args.h, of output maps in map_args.h and, of block
 * patterns, in block_args.h and pattern_args.h.
 *
 * The grid of a stage: B batch, Hq and Hkv query and KV heads, W the last queries, which score, N = L - W, C the capacity,
 * T = C / 128 rounded up, bm the stage's block_m. "t(x)" is x divided by bm, rounded up.
 *
 *     stage              arguments                     grid
 *     score_stats        tamis_score_args              chunks, t(Hq / Hkv * W), B * Hkv
 *     score_stats_tma    tamis_score_tma_args          min(chunks * t(Hq / Hkv * W) * B * Hkv, multiprocessors), 1, 1
 *     score_merge        tamis_score_args              t(W), Hq, B
 *     score_sum          tamis_score_args              t(N), Hkv, B
 *     score_sum_tma      tamis_score_tma_args          min(t(N) * B * Hkv, multiprocessors), 1, 1
 *     select_pool        tamis_pool_args               t(N), B, 1
 *     select_budget      tamis_budget_args             1, B, 1
 *     select_tokens      tamis_tokens_args             1, index_heads, B
 *     compress           tamis_compress_args           t(C) * head_run, sum of the tensors' heads / head_run, B
 *     attend             tamis_attend_args             t(C), Hq, B
 *     attend_tma         tamis_attend_tma_args         min(t(C) * B * Hq, multiprocessors), 1, 1; counter set to 0 before
 *     attend_map         tamis_attend_map_args         as attend, in whose place it stands where there is an output map
 *     attend_map_tma     tamis_attend_map_tma_args     as attend_tma
 *     decompress         tamis_decompress_args         t(L), Hq, B
 *     blocks_bits        tamis_blocks_bits_args        t(T), Hq, B
 *     blocks_rows        tamis_blocks_rows_args        t(T), Hq, B
 *     blocks_order       tamis_blocks_order_args       B * Hq / section_heads, rounded up, 1, 1
 *     attend_blocks      tamis_attend_blocks_args      T, Hq, B
 *     attend_blocks_tma  tamis_attend_blocks_tma_args  min(T * B * Hq, multiprocessors), 1, 1; blocks_order before
 *     pattern_...        tamis_pattern_..._args        pattern_args.h has them, tamis_kernels_make_lists() launches them
 *
 * select_pool writes what select_budget would where a fixed budget is given. Lists longer than block_n, if that is not 0, are
 * faster shared by block_m blocks along x, which the launch must make one cluster: tamis_kernels_launch_clusters().
 *
 * Attention on the blocks that lists name is attend_blocks in place of attend, with the same arguments, causal, and the lists.
 * blocks_order's section_heads is a multiple of Hq / Hc with at most 65536 query blocks; heads whose K and V fit L2 together,
 * some 32 MiB, are best.
 *
 * A stage whose name ends in _tma stands for the one without where the table has it; attend_tma, attend_map_tma and
 * attend_blocks_tma, given indices, for decompress without compact rows too. Their maps are tamis_kernels_map()'s, in boxes of
 * block_m rows for q of these three and k of score_sum_tma, and of block_n rows for the others: that of an output map too, a
 * tensor of batch 1, Hq heads and D rows.
 */
#ifndef TAMIS_KERNELS_H
#define TAMIS_KERNELS_H

#include "map_args.h"
#include "pattern_args.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TAMIS_KERNELS_BF16 = 0, TAMIS_KERNELS_FP16 = 1 };

/* What functions return: 0, a CUresult of the driver, or one of these. */
enum {
    TAMIS_KERNELS_NO_DRIVER = -1, /* libcuda.so.1 is not there, or older than CUDA 12.0 */
    TAMIS_KERNELS_NO_KERNEL = -2, /* the table has none for that */
    TAMIS_KERNELS_ARGUMENTS = -3  /* their size is not that of the stage's struct; or a pattern is none, or out of range */
};
const char *tamis_kernels_error(int code); /* of those above; "error of the driver" for a CUresult */

/* A line of the table: a kernel, what it is for, and how it is launched. */
struct tamis_kernels_entry {
    const char *spec;    /* the model that it was made for */
    const char *family;  /* score, select, compress, attend, decompress; attend_map; blocks, attend_blocks, four of patterns */
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
    int (*launch_kernel_ex)(const void *, void *, void **, void **);
    int (*tensor_map_encode_tiled)(void *, int, unsigned, void *, const unsigned long long *, const unsigned long long *,
                                   const unsigned *, const unsigned *, int, int, int, int);
};
/* From libcuda.so.1, which stays open; cuInit is the caller's. TAMIS_KERNELS_NO_DRIVER: all zeros, and nothing stays open. */
int tamis_kernels_open(struct tamis_kernels_driver *out);

/* The architecture of the table whose kernels a device of this compute capability runs; NULL: none. */
const char *tamis_kernels_arch(int major, int minor);

/* Kernels in a context: one a stage. All zeros: none. Many threads may launch from one. */
struct tamis_kernels {
    struct tamis_kernels_driver driver;
    const struct tamis_kernels_entry *entries[32];
    void *functions[32];
    int count;
    void *libraries[32];
    int library_count;
    int dtype, head_dim; /* of the load */
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

/* Put a stage on a stream, in the context of the load. `args` is the stage's struct; it is copied. */
int tamis_kernels_launch(const struct tamis_kernels *kernels, const char *stage, unsigned x, unsigned y, unsigned z,
                         void *args, size_t args_bytes, void *stream);
/* The same with each `cluster` blocks along x as one cluster, on devices from compute capability 9.0 on. */
int tamis_kernels_launch_clusters(const struct tamis_kernels *kernels, const char *stage, unsigned cluster, unsigned x,
                                  unsigned y, unsigned z, void *args, size_t args_bytes, void *stream);

/*
 * A map of a (batch, heads, rows, D) tensor of the loaded dtype and head dim, for a stage whose name ends in _tma, in boxes of
 * 64 columns by `box_rows` rows. It is a function of its arguments alone, whatever lies at the address.
 */
int tamis_kernels_map(struct tamis_tensor_map *out, const struct tamis_kernels *kernels, const struct tamis_rows *tensor,
                      int batch, int heads, long long rows, int box_rows);

/* ---- lists of blocks out of Q and K. A host's own need none of this: see blocks_bits and blocks_rows, and block_args.h. */

enum {
    TAMIS_KERNELS_SLIDING = 2,        /* the first tokens and the last before each query: StreamingLLM, arXiv 2309.17453 */
    TAMIS_KERNELS_VERTICAL_SLASH = 3, /* columns and diagonals that the last queries attend to: MInference, arXiv 2407.02490 */
    TAMIS_KERNELS_FLEXPREFILL = 4,    /* query-aware blocks or vertical-slash: FlexPrefill, arXiv 2502.20766 */
    TAMIS_KERNELS_XATTENTION = 5,     /* blocks by sums over antidiagonals: XAttention, arXiv 2503.16428 */
    TAMIS_KERNELS_TOPK_BLOCKS = 6     /* the best blocks by mean Q and mean K */
};

/* A pattern. Only the members of its kind are looked at. */
struct tamis_kernels_pattern {
    int kind;
    long long sink_tokens, window_tokens;   /* sliding: >= 0, and >= 1 with the query itself; exact to the token */
    int last_queries;                       /* vertical_slash: 1..128, that estimate what is attended to */
    long long vertical_lines, slash_lines;  /* >= 0: kept, as lines / 128 + 1 blocks of them */
    double coverage;                        /* in (0, 1]: as many as hold this part of the mass instead; 0: those counts */
    double gamma;                           /* flexprefill: in (0, 1], part of the attention mass to keep */
    double tau;                             /* >= 0: query-aware where the Jensen-Shannon distance is below */
    long long min_tokens, max_tokens;       /* >= 0: of columns, and of diagonals; max_tokens 0: no bound */
    int stride;                             /* xattention: 4, 8, 16, 32 or 64, of the antidiagonals in a block */
    double threshold;                       /* in (0, 1]: part of a query block's estimated mass to keep */
    long long blocks;                       /* topk_blocks: that a query block attends to; 0: by ratio */
    double ratio;                           /* in (0, 1]: of the blocks up to the query block, rounded up */
};
/* The published parameters of every kind. */
void tamis_kernels_pattern_init(struct tamis_kernels_pattern *out, int kind);

/* The patterns that specs name, of the table; the last line has no spec. */
struct tamis_kernels_spec {
    const char *spec;
    struct tamis_kernels_pattern pattern;
};
extern const struct tamis_kernels_spec tamis_kernels_specs[];
const struct tamis_kernels_pattern *tamis_kernels_spec_pattern(const char *spec); /* NULL: it names none */

/*
 * Bytes of device memory that tamis_kernels_make_lists takes as scratch; 0: no such kind, or a parameter out of its range.
 * `source` is what that is given, of which the shape is looked at; `multiprocessors` the device's.
 */
size_t tamis_kernels_lists_bytes(const struct tamis_kernels *kernels, const struct tamis_kernels_pattern *pattern,
                                 const struct tamis_pattern_source *source, int multiprocessors);

/*
 * Make the lists of a pattern: put the stages that it takes on a stream, in the context of the load. The caller has `count`,
 * `list`, `tiles`, which is T, and `row` of the lists, which is T too, or for sliding at least sink_tokens / 128 rounded up and
 * (window_tokens - 1) / 128 + 2; `masks` and `mask_count` become the pattern's, in the scratch where there are any. Scratch is
 * 256-byte aligned, and is in use until attention on the lists is through. TAMIS_KERNELS_NO_KERNEL: one of the stages is not
 * loaded; nothing is launched then.
 */
int tamis_kernels_make_lists(const struct tamis_kernels *kernels, const struct tamis_kernels_pattern *pattern,
                             const struct tamis_pattern_source *source, struct tamis_block_lists *lists, void *scratch,
                             int multiprocessors, void *stream);

#ifdef __cplusplus
}
#endif

#endif
