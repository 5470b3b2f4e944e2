/*
 * cpu_stage.h: the CPU backend's stages. Each cuts its work into tiles and hands them to the context's threads; arguments
 * have been checked by the API. Above cpu_tile and cpu_threads, below cpu.c, which puts the stages together.
 */
#ifndef TAMISI_CPU_STAGE_H
#define TAMISI_CPU_STAGE_H

#include "cpu_threads.h"
#include "cpu_tile.h"
#include "plan.h"

/* The state of a CPU context. */
struct tamisi_cpu {
    struct tamisi_cpu_threads *threads;
    const struct tamisi_cpu_arithmetic *arithmetic;
};

static inline const struct tamisi_cpu *tamisi_cpu_of(const tamis_plan *plan) { return plan->context->state; }

/* Of any number of rows: a host may say INT64_MAX where it means that there is no bound. */
static inline long long tamisi_cpu_tiles(long long rows, int tile) { return rows / tile + (rows % tile > 0); }

/* Rows of (sequence, head) of a tensor; offsets in 64 bits. */
static inline struct tamisi_cpu_rows tamisi_cpu_rows_of(const tamis_tensor *tensor, long long sequence, long long head)
{
    uint16_t *data = tensor->data;
    return (struct tamisi_cpu_rows){data + sequence * tensor->batch_stride + head * tensor->head_stride,
                                    tensor->token_stride};
}

/* Steps 1 and 2. rank and mean may both be NULL: the score alone. */
void tamisi_cpu_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score, float *rank,
                      float *mean, char *workspace);

/* Steps 3 and 4. rank and mean are not read under a dense plan. */
void tamisi_cpu_select(const tamis_plan *plan, const float *rank, const float *mean, int32_t *kept, int32_t *indices);

/* Step 5 for one tensor: `heads` compact heads out of `source_heads`. */
void tamisi_cpu_compress(const tamis_plan *plan, const tamis_tensor *source, int source_heads, const tamis_tensor *compact,
                         int heads, const int32_t *kept, const int32_t *indices);

/* Step 6. kept NULL: every sequence has L rows. indices as in struct tamisi_cpu_attend. */
struct tamisi_cpu_attend_args {
    const tamis_tensor *q, *k, *v, *output;
    int kv_heads; /* of k and v */
    const int32_t *kept;
    const int32_t *indices;
    float *lse;         /* or NULL */
    long long lse_rows; /* its row length */
    const uint16_t *output_map; /* (Hq, D, D) or NULL */
};
void tamisi_cpu_attend(const tamis_plan *plan, const struct tamisi_cpu_attend_args *args);

struct tamisi_cpu_place {
    long long row;   /* (sequence, query head), counted together */
    long long first; /* query of the tile */
};

/*
 * Of `tiles` a row, the tile that is given out as number `index`: what it attends to. False: it lies behind the sequence's last
 * row. Later rows see more keys: the longest tiles come first, so that the threads end together.
 */
bool tamisi_cpu_attend_tile(struct tamisi_cpu_attend *out, struct tamisi_cpu_place *place, const tamis_plan *plan,
                            const struct tamisi_cpu_attend_args *args, long long tiles, long long index);

/* ---- block patterns: cpu_blocks.c, and cpu_pattern.c for what makes lists from Q and K */

struct tamisi_cpu_pattern_source {
    const tamis_tensor *q, *k; /* NULL: of a step, under a pattern that does not look at them */
    int kv_heads;              /* of k */
    const int32_t *kept;       /* as of struct tamisi_cpu_attend_args, whose q and k these are */
    const int32_t *indices;
};

/* Lists of blocks as block_args.h has them, in host memory. */
struct tamisi_cpu_lists {
    int32_t *count; /* the host's are only read */
    int32_t *list;
    uint32_t *masks;
    int mask_count;
    int row; /* entries from one list to the next */
};

/* Lists that the host names in another form. */
void tamisi_cpu_list_blocks(const tamis_plan *plan, const tamis_blocks *blocks, const struct tamisi_cpu_lists *lists);

/* Step 6 on lists. */
void tamisi_cpu_attend_blocks(const tamis_plan *plan, const struct tamisi_cpu_attend_args *args,
                              const struct tamisi_cpu_lists *lists);

/* The number of the block that an entry lists. */
static inline int tamisi_cpu_block_of(int32_t entry) { return entry & ((1 << TAMIS_BLOCK_BITS) - 1); }

/* Step 7. compact NULL: kept rows are in place already, only the dropped ones are written. */
void tamisi_cpu_decompress(const tamis_plan *plan, const tamis_tensor *compact, const float *compact_lse,
                           const int32_t *kept, const int32_t *indices, const tamis_tensor *output, float *lse);

/* The host may have made kept and indices (NULL: not used) itself: TAMIS_EINVAL unless they are within bounds, ascending. */
tamis_status tamisi_cpu_check(const tamis_plan *plan, const int32_t *kept, const int32_t *indices);

/* Representation drift, cpu_drift.c: the vtable's. */
tamis_status tamisi_cpu_drift_open(tamis_drift *drift, tamis_store *store);
void tamisi_cpu_drift_close(tamis_drift *drift);
tamis_status tamisi_cpu_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream);
tamis_status tamisi_cpu_drift_add(const tamis_drift *drift, struct tamisi_drift_layer *layer,
                                  const struct tamisi_drift_rows *given, tamis_stream stream);

#endif
