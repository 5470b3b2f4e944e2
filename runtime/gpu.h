/*
 * gpu.h: what the GPU backend's files share: the opened device, a plan's loaded kernels, and launching one. Layer: below
 * the gpu_*.c files, above store, compile and driver.
 */
#ifndef TAMISI_GPU_H
#define TAMISI_GPU_H

#include "driver.h"
#include "pattern_args.h"
#include "plan.h"

#include <pthread.h>

/* context->state of a GPU context. */
struct tamisi_gpu {
    const struct tamisi_cuda *cuda;
    tamisi_cu_device device;
    tamisi_cu_context primary; /* retained; made current around every call that needs a context */
    char name[128];
    int cc_major, cc_minor;
    int sm_count, l2_bytes;
    bool starts_early; /* kernels may start while the one before them ends: from 9.0, and CUDA 12.3 to be captured so */
    char arch[16]; /* whose variants and cubins this device runs: "sm_90a" */
    pthread_mutex_t lock;                 /* held while libraries come and go */
    struct tamisi_gpu_library *libraries; /* that plans of this context use */
};

/* ---- gpu_library.c: loaded code, by its source; all of a context's is for the one architecture */

struct tamisi_gpu_library {
    struct tamisi_gpu_library *next;
    struct tamisi_hash source;
    tamisi_cu_library handle;
    int users;
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
    int resource_count;
};

/* One that is loaded, with one user more; NULL: it is not. */
struct tamisi_gpu_library *tamisi_gpu_library_find(struct tamisi_gpu *gpu, const struct tamisi_hash *source);
/* Load a cubin; `name` is for a message. With one user. */
tamis_status tamisi_gpu_library_load(struct tamisi_gpu_library **out, struct tamisi_gpu *gpu,
                                     const struct tamisi_hash *source, const struct tamisi_cubin *cubin, const char *name);
void tamisi_gpu_library_release(struct tamisi_gpu *gpu, struct tamisi_gpu_library *library); /* NULL is fine */

/* The launches of a plan. Each is one entry of a variant; the names are the entries' `stage`. */
enum tamisi_stage {
    TAMISI_SCORE_STATS,
    TAMISI_SCORE_STATS_TMA, /* of a stage and its _TMA a plan has one, by the template that its variant is made of */
    TAMISI_SCORE_MERGE,
    TAMISI_SCORE_SUM,
    TAMISI_SCORE_SUM_TMA,
    TAMISI_SELECT_POOL,
    TAMISI_SELECT_BUDGET,
    TAMISI_SELECT_TOKENS,
    TAMISI_COMPRESS,
    TAMISI_ATTEND,
    TAMISI_ATTEND_TMA,
    TAMISI_DECOMPRESS,
    TAMISI_ATTEND_MAP, /* this and the next: of plans with an output map, in place of attend and attend_tma */
    TAMISI_ATTEND_MAP_TMA,
    TAMISI_BLOCKS_BITS, /* this and the rest: of plans with a pattern */
    TAMISI_BLOCKS_ROWS,
    TAMISI_BLOCKS_ORDER,
    TAMISI_ATTEND_BLOCKS,
    TAMISI_ATTEND_BLOCKS_TMA,
    TAMISI_PATTERN_SLIDING, /* this and the rest: of plans whose pattern is made of Q and K */
    TAMISI_PATTERN_MEANS,
    TAMISI_PATTERN_PRODUCTS,
    TAMISI_PATTERN_CHOOSE,
    TAMISI_PATTERN_STATS,
    TAMISI_PATTERN_MERGE,
    TAMISI_PATTERN_LINES,
    TAMISI_PATTERN_HEADS,
    TAMISI_PATTERN_SOFTEN,
    TAMISI_PATTERN_CUT,
    TAMISI_PATTERN_LISTS,
    TAMISI_PATTERN_XATTN,
    TAMISI_PATTERN_XATTN_TMA,
    TAMISI_STAGE_COUNT
};

struct tamisi_kernel {
    tamisi_cu_function function;
    struct tamisi_entry entry;
};

/*
 * Tensor maps that a plan has had made, in sets by the tensor's address. A map is a function of its key and the plan's problem,
 * whatever lies at the address. A set that another thread is looking at is passed by: nobody waits.
 */
struct tamisi_map_key { /* no padding: compared as bytes */
    unsigned long long address, rows, heads, box_rows, apart, strides[3];
};
#define TAMISI_MAP_SETS_LOG2 4 /* 128 maps: for a model whose layers each have their own K */
#define TAMISI_MAP_WAYS 8      /* more than a run has, so that its maps are there for the next even if all fall into one set */
struct tamisi_map_set {
    atomic_bool busy;
    unsigned clock, used[TAMISI_MAP_WAYS]; /* when last; the oldest gives way */
    struct tamisi_map_key keys[TAMISI_MAP_WAYS];
    struct {
        unsigned char bytes[sizeof(struct tamis_tensor_map)]; /* which are nowhere aligned as a map is */
    } maps[TAMISI_MAP_WAYS];
};

#define TAMISI_FAMILY_COUNT 5     /* of every plan */
#define TAMISI_PATTERN_FAMILIES 6 /* behind them, of plans with a pattern; but for `blocks` they are tuned */
#define TAMISI_ALL_FAMILIES (TAMISI_FAMILY_COUNT + TAMISI_PATTERN_FAMILIES)
#define TAMISI_FAMILY_ATTEND 3 /* place in tamisi_gpu_families; of plans with an output map TAMISI_MAP_FAMILY's */

/* plan->state of a GPU plan. */
struct tamisi_gpu_plan {
    struct tamisi_kernel kernels[TAMISI_STAGE_COUNT];
    struct tamisi_gpu_library *libraries[TAMISI_ALL_FAMILIES];
    struct tamisi_variant variants[TAMISI_ALL_FAMILIES];
    struct tamisi_resource resources[TAMISI_STAGE_COUNT];
    struct tamisi_choice choices[TAMISI_ALL_FAMILIES]; /* why each variant */
    struct tamisi_map_set maps[1 << TAMISI_MAP_SETS_LOG2]; /* all else stays as it was made */
};

/* ---- gpu_choice.c: a family's variants for a plan, in the order in which they are tried */

struct tamisi_ranking {
    struct tamisi_variant *variants; /* owned; the best first */
    size_t count;                    /* at least one */
    struct tamisi_choice choice;     /* of the first */
};

extern const char *const tamisi_gpu_families[TAMISI_ALL_FAMILIES];
void tamisi_gpu_identify(struct tamisi_gpu_identity *out, const struct tamisi_gpu *gpu);
/*
 * Variants of TAMISI_MAP_FAMILY come in the order of those of attend that have the same tiles, by whose times they are chosen.
 * `gpu` of the identity alone is looked at, so that a plan for an absent GPU can be explained. `pattern`: the plan's, of kind
 * NONE too. Statuses of a plan.
 */
tamis_status tamisi_gpu_rank(struct tamisi_ranking *out, tamis_store *store, const char *family, const char *arch,
                             const tamis_problem *problem, const struct tamisi_facts *facts, const tamis_pattern *pattern,
                             tamis_tuning tuning, const struct tamisi_gpu_identity *gpu);
void tamisi_ranking_free(struct tamisi_ranking *ranking);
/* "timed for the nearest shape (seq_len 32768, kept 16448); 1.08 times as fast as the default" */
void tamisi_choice_describe(struct tamisi_buf *out, const struct tamisi_choice *choice);

tamis_status tamisi_gpu_enter(const struct tamis_context *context); /* make the primary context current */
void tamisi_gpu_leave(const struct tamis_context *context);

/* gpu_plan.c */
tamis_status tamisi_gpu_plan_open(tamis_plan *plan, tamis_store *store);
void tamisi_gpu_plan_close(tamis_plan *plan);
void tamisi_gpu_describe(const tamis_plan *plan, struct tamisi_buf *out);
/* A variant's code, loaded in a current context: what another plan has, or a cubin of store, cache or compiler. */
tamis_status tamisi_gpu_library_get(struct tamisi_gpu_library **out, const tamis_plan *plan, tamis_store *store,
                                    const struct tamisi_variant *variant);

/* gpu_drift.c: the vtable's drift */
tamis_status tamisi_gpu_drift_open(tamis_drift *drift, tamis_store *store);
void tamisi_gpu_drift_close(tamis_drift *drift);
tamis_status tamisi_gpu_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream);
tamis_status tamisi_gpu_drift_add(const tamis_drift *drift, struct tamisi_drift_layer *layer,
                                  const struct tamisi_drift_rows *given, tamis_stream stream);

/* Put a stage's kernel on the stream with a grid and its argument struct, in a current context. gpu_stages.c. */
tamis_status tamisi_gpu_launch(const tamis_plan *plan, enum tamisi_stage stage, unsigned x, unsigned y, unsigned z,
                               void *args, tamis_stream stream);
/* The same with each `cluster` blocks along x as one; clusters of more than one block exist from 9.0. */
tamis_status tamisi_gpu_launch_clusters(const tamis_plan *plan, enum tamisi_stage stage, unsigned cluster, unsigned x,
                                        unsigned y, unsigned z, void *args, tamis_stream stream);
/* The same on blocks that share out `items` of work: as many as there are items, and at most one an SM. */
tamis_status tamisi_gpu_launch_persistent(const tamis_plan *plan, enum tamisi_stage stage, long long items, void *args,
                                          tamis_stream stream);
const struct tamisi_entry *tamisi_gpu_entry(const tamis_plan *plan, enum tamisi_stage stage);
bool tamisi_gpu_has(const tamis_plan *plan, enum tamisi_stage stage); /* of a stage and its _TMA a plan has one */
unsigned tamisi_gpu_tiles(long long rows, int block);
struct tamis_rows tamisi_gpu_rows_of(const tamis_tensor *tensor);

/*
 * gpu_maps.c: a map of (B, heads, rows, D) for the tensor copy engine, in boxes of 64 columns by `box_rows` rows. The driver
 * makes it, unless the plan has one of the same tensor from before. From many threads at once.
 */
tamis_status tamisi_gpu_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamis_rows *tensor, int heads,
                            long long rows, int box_rows);
/*
 * Of the same rows, as many as fill groups of `apart`, as (B, heads, groups, apart, D): boxes have a row of each of
 * `box_groups` groups. There is at least one group.
 */
tamis_status tamisi_gpu_strided_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamis_rows *tensor,
                                    int heads, long long rows, int apart, int box_groups);

/* gpu_score.c: the score (step 1) of a plan with candidates, in a current context. */
tamis_status tamisi_gpu_score_launch(const tamis_plan *plan, const struct tamis_rows *q, const struct tamis_rows *k,
                                     float *score, char *workspace, tamis_stream stream);

/* gpu_attend.c. The caller sets rows, kept, indices, lse, lse_rows and compact_heads; the rest follows from the plan.
   `output_map`: of a plan that has one. */
tamis_status tamisi_gpu_attend_launch(const tamis_plan *plan, struct tamis_attend_args *args, const void *output_map,
                                      char *workspace, tamis_stream stream);
/* TAMIS_EUNSUPPORTED where the plan's attention kernel cannot count its tiles. */
tamis_status tamisi_gpu_attend_check(const tamis_plan *plan);
/* Does the plan's attention kernel, given indices, write the rows of dropped tokens? */
bool tamisi_gpu_attend_zeroes(const tamis_plan *plan);
/* Does one call of the operator launch the family, in a plan that takes `attend` for its attention? */
bool tamisi_gpu_launches(const char *family, const struct tamisi_facts *facts, const struct tamisi_variant *attend);
float tamisi_gpu_scale_log2(const tamis_plan *plan);
/* Of the steps: compact rows, the output's too. */
struct tamis_attend_args tamisi_gpu_attend_compact(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                                   const tamis_tensor *v, const int32_t *kept, const tamis_tensor *output,
                                                   float *lse);
/* What every attention kernel is told of the plan: the rest of the members that the caller does not set. */
void tamisi_gpu_attend_fill(const tamis_plan *plan, struct tamis_attend_args *args);

/* gpu_blocks.c: the same two on the blocks that a plan's pattern lists. `blocks`: the run's, or NULL. */
tamis_status tamisi_gpu_attend_pattern(const tamis_plan *plan, struct tamis_attend_args *args, const tamis_blocks *blocks,
                                       char *workspace, tamis_stream stream);
tamis_status tamisi_gpu_blocks_check(const tamis_plan *plan);

/* gpu_pattern.c: lists out of Q and K, for all patterns but the host's, in a current context. */
tamis_status tamisi_gpu_make_lists(const tamis_plan *plan, const struct tamis_pattern_source *source,
                                   const struct tamis_block_lists *lists, char *workspace, tamis_stream stream);
size_t tamisi_gpu_maker_bytes(const tamis_context *context, const tamis_problem *problem, const struct tamisi_facts *facts,
                              const tamis_pattern *pattern);
bool tamisi_gpu_pattern_needs(tamis_pattern_kind kind, const char *family); /* of those behind every plan's */

/* gpu_stages.c: the vtable's steps */
tamis_status tamisi_gpu_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score,
                              float *rank, float *mean, char *workspace, tamis_stream stream);
tamis_status tamisi_gpu_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept,
                               int32_t *indices, char *workspace, tamis_stream stream);
tamis_status tamisi_gpu_compress(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                 const tamis_tensor *v, const int32_t *kept, const int32_t *indices,
                                 const tamis_tensor *compact_q, const tamis_tensor *compact_k,
                                 const tamis_tensor *compact_v, tamis_stream stream);
tamis_status tamisi_gpu_attend(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                               const tamis_tensor *v, const int32_t *kept, const void *output_map,
                               const tamis_tensor *output, float *lse, char *workspace, tamis_stream stream);
tamis_status tamisi_gpu_make_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, const int32_t *kept,
                                    const tamis_blocks *blocks, int32_t *count, int32_t *list, char *workspace,
                                    tamis_stream stream);
tamis_status tamisi_gpu_attend_blocks(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                      const tamis_tensor *v, const int32_t *kept, const tamis_blocks *blocks,
                                      const tamis_tensor *output, float *lse, char *workspace, tamis_stream stream);
tamis_status tamisi_gpu_decompress(const tamis_plan *plan, const tamis_tensor *compact_output, const float *compact_lse,
                                   const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse,
                                   tamis_stream stream);
tamis_status tamisi_gpu_run(const tamis_plan *plan, const tamis_run_args *args, char *workspace, tamis_stream stream);

#endif
