/*
 * gpu_attend.c: launching attention (step 6): on a grid of tiles, or, where the plan's kernel reads through the tensor copy
 * engine, on persistent blocks with maps of the tensors. Below gpu_stages.c.
 */
#include "gpu.h"

#include <limits.h>
#include <string.h>

static const double log2_e = 1.44269504088896340736;

float tamisi_gpu_scale_log2(const tamis_plan *plan) { return (float)(plan->facts.scale * log2_e); }

/* What attends, on a grid or through the copy engine, in a plan without a pattern. */
static enum tamisi_stage grid_stage(const tamis_plan *plan)
{
    return plan->options.output_map ? TAMISI_ATTEND_MAP : TAMISI_ATTEND;
}

static enum tamisi_stage tma_stage(const tamis_plan *plan)
{
    return plan->options.output_map ? TAMISI_ATTEND_MAP_TMA : TAMISI_ATTEND_TMA;
}

static long long tiles_a_head(const tamis_plan *plan)
{
    return tamisi_gpu_tiles(plan->facts.capacity, tamisi_gpu_entry(plan, tma_stage(plan))->block_m);
}

tamis_status tamisi_gpu_attend_check(const tamis_plan *plan)
{
    const long long heads = (long long)plan->problem.batch * plan->problem.q_heads;
    if (!tamisi_gpu_has(plan, tma_stage(plan)) || tiles_a_head(plan) <= INT_MAX / heads) return TAMIS_OK;
    return tamisi_fail(TAMIS_EUNSUPPORTED, "batch * q_heads * seq_len is too large for %s",
                       tamisi_gpu_entry(plan, tma_stage(plan))->symbol);
}

bool tamisi_gpu_attend_zeroes(const tamis_plan *plan)
{
    const bool all = plan->pattern.kind == TAMIS_PATTERN_NONE;
    return tamisi_gpu_has(plan, all ? tma_stage(plan) : TAMISI_ATTEND_BLOCKS_TMA);
}

/* The same of a variant that is in no plan yet. */
static bool zeroes(const struct tamisi_variant *attend)
{
    for (int i = 0; i < attend->entry_count; i++)
        if (strcmp(attend->entries[i].stage, "attend_tma") == 0 || strcmp(attend->entries[i].stage, "attend_map_tma") == 0)
            return true;
    return false;
}

bool tamisi_gpu_launches(const char *family, const struct tamisi_facts *facts, const struct tamisi_variant *attend)
{
    if (facts->dense) return strcmp(family, "attend") == 0;
    return strcmp(family, "decompress") != 0 || !zeroes(attend);
}

/* The matrices of all heads, as rows of a tensor that sequences share. */
static struct tamis_rows map_rows(const tamis_plan *plan, const void *output_map)
{
    const long long dim = plan->problem.head_dim;
    void *data = (void *)(uintptr_t)output_map; /* read alone, as K is */
    return (struct tamis_rows){data, 0, dim * dim, dim};
}

/* The blocks take tiles from a counter: whichever is done takes the next, so that none waits for another. */
static tamis_status launch_tma(const tamis_plan *plan, const struct tamis_attend_args *attend, const void *output_map,
                               char *workspace, tamis_stream stream)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, tma_stage(plan));
    const long long capacity = plan->facts.capacity, heads = (long long)plan->problem.batch * attend->q_heads;
    const long long tiles = tiles_a_head(plan);
    unsigned *counter = (unsigned *)(void *)(workspace + plan->workspace.counter);
    if (!attend->indices) /* else compress has done it, at the end of which this kernel starts without a gap */
        TAMIS_TRY(tamisi_cuda_check(gpu->cuda,
                                    gpu->cuda->memset_d32_async((tamisi_cu_deviceptr)(uintptr_t)counter, 0, 1, stream),
                                    "cannot clear the counter of tiles"));
    struct tamis_attend_map_tma_args args = { /* without a map the kernel takes the first member alone */
        .run = {.attend = *attend, .tiles = (int)tiles, .heads = (int)heads, .counter = counter}};
    struct tamis_attend_tma_args *run = &args.run;
    if (!attend->indices)
        TAMIS_TRY(tamisi_gpu_map(&run->q, plan, &attend->q, attend->q_heads, capacity, entry->block_m));
    TAMIS_TRY(tamisi_gpu_map(&run->k, plan, &attend->k, attend->compact_heads, capacity, entry->block_n));
    TAMIS_TRY(tamisi_gpu_map(&run->v, plan, &attend->v, attend->compact_heads, capacity, entry->block_n));
    if (attend->k_full.data) {
        TAMIS_TRY(tamisi_gpu_map(&run->k_full, plan, &attend->k_full, attend->kv_heads, attend->seq_len, entry->block_n));
        TAMIS_TRY(tamisi_gpu_map(&run->v_full, plan, &attend->v_full, attend->kv_heads, attend->seq_len, entry->block_n));
    }
    const struct tamis_rows matrices = map_rows(plan, output_map);
    if (output_map)
        TAMIS_TRY(tamisi_gpu_map(&args.output_map, plan, &matrices, attend->q_heads, plan->problem.head_dim, entry->block_n));
    return tamisi_gpu_launch_persistent(plan, tma_stage(plan), tiles * heads, &args, stream);
}

struct tamis_attend_args tamisi_gpu_attend_compact(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k,
                                                   const tamis_tensor *v, const int32_t *kept, const tamis_tensor *output,
                                                   float *lse)
{
    return (struct tamis_attend_args){.q = tamisi_gpu_rows_of(q),
                                      .k = tamisi_gpu_rows_of(k),
                                      .v = tamisi_gpu_rows_of(v),
                                      .output = tamisi_gpu_rows_of(output),
                                      .lse = lse,
                                      .kept = kept,
                                      .lse_rows = plan->facts.capacity,
                                      .compact_heads = plan->facts.compact_heads};
}

void tamisi_gpu_attend_fill(const tamis_plan *plan, struct tamis_attend_args *args)
{
    const tamis_problem *problem = &plan->problem;
    args->seq_len = problem->seq_len;
    args->capacity = plan->facts.capacity;
    args->q_heads = problem->q_heads;
    args->kv_heads = problem->kv_heads;
    args->index_heads = plan->facts.index_heads;
    args->causal = problem->mask == TAMIS_CAUSAL;
    args->scale_log2 = tamisi_gpu_scale_log2(plan);
}

tamis_status tamisi_gpu_attend_launch(const tamis_plan *plan, struct tamis_attend_args *args, const void *output_map,
                                      char *workspace, tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    tamisi_gpu_attend_fill(plan, args);
    if (tamisi_gpu_has(plan, tma_stage(plan))) return launch_tma(plan, args, output_map, workspace, stream);
    struct tamis_attend_map_args mapped = {.attend = *args, .output_map = output_map}; /* likewise */
    const unsigned tiles = tamisi_gpu_tiles(args->capacity, tamisi_gpu_entry(plan, grid_stage(plan))->block_m);
    return tamisi_gpu_launch(plan, grid_stage(plan), tiles, (unsigned)problem->q_heads, (unsigned)problem->batch, &mapped,
                             stream);
}
