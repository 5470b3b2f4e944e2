/*
 * gpu_score.c: launching the score (step 1): two passes over the keys and between them the merging of what chunks of keys
 * gave, on grids of tiles or, where the plan's kernels read through the tensor copy engine, on persistent blocks. Below
 * gpu_stages.c.
 */
#include "gpu.h"

static tamis_status launch_stats(const tamis_plan *plan, struct tamis_score_args *args, tamis_stream stream)
{
    const unsigned heads = (unsigned)(args->batch * args->kv_heads), chunks = (unsigned)args->chunks;
    const long long rows = (long long)plan->facts.group * args->window;
    if (!tamisi_gpu_has(plan, TAMISI_SCORE_STATS_TMA)) {
        const unsigned tiles = tamisi_gpu_tiles(rows, tamisi_gpu_entry(plan, TAMISI_SCORE_STATS)->block_m);
        return tamisi_gpu_launch(plan, TAMISI_SCORE_STATS, chunks, tiles, heads, args, stream);
    }
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, TAMISI_SCORE_STATS_TMA);
    struct tamis_score_tma_args tma = {.score = *args};
    TAMIS_TRY(tamisi_gpu_map(&tma.k, plan, &args->k, args->kv_heads, args->seq_len, entry->block_n));
    const long long items = (long long)heads * tamisi_gpu_tiles(rows, entry->block_m) * chunks;
    return tamisi_gpu_launch_persistent(plan, TAMISI_SCORE_STATS_TMA, items, &tma, stream);
}

static tamis_status launch_sum(const tamis_plan *plan, struct tamis_score_args *args, tamis_stream stream)
{
    const long long candidates = plan->facts.candidates;
    if (!tamisi_gpu_has(plan, TAMISI_SCORE_SUM_TMA)) {
        const unsigned tiles = tamisi_gpu_tiles(candidates, tamisi_gpu_entry(plan, TAMISI_SCORE_SUM)->block_m);
        return tamisi_gpu_launch(plan, TAMISI_SCORE_SUM, tiles, (unsigned)args->kv_heads, (unsigned)args->batch, args, stream);
    }
    const struct tamisi_entry *entry = tamisi_gpu_entry(plan, TAMISI_SCORE_SUM_TMA);
    struct tamis_score_tma_args tma = {.score = *args};
    TAMIS_TRY(tamisi_gpu_map(&tma.q, plan, &args->q, args->q_heads, args->seq_len, entry->block_n));
    TAMIS_TRY(tamisi_gpu_map(&tma.k, plan, &args->k, args->kv_heads, args->seq_len, entry->block_m));
    const long long items = (long long)args->batch * args->kv_heads * tamisi_gpu_tiles(candidates, entry->block_m);
    return tamisi_gpu_launch_persistent(plan, TAMISI_SCORE_SUM_TMA, items, &tma, stream);
}

tamis_status tamisi_gpu_score_launch(const tamis_plan *plan, const struct tamis_rows *q, const struct tamis_rows *k,
                                     float *score, char *workspace, tamis_stream stream)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    struct tamis_score_args args = {.q = *q,
                                    .k = *k,
                                    .partial = (float *)(void *)(workspace + plan->workspace.partial),
                                    .lse2 = (float *)(void *)(workspace + plan->workspace.lse2),
                                    .score = score,
                                    .seq_len = problem->seq_len,
                                    .chunk_keys = facts->score_chunk_keys,
                                    .chunks = facts->score_chunks,
                                    .lse2_rows = facts->lse2_rows,
                                    .batch = problem->batch,
                                    .q_heads = problem->q_heads,
                                    .kv_heads = problem->kv_heads,
                                    .window = problem->selection.window,
                                    .scale_log2 = tamisi_gpu_scale_log2(plan)};
    TAMIS_TRY(launch_stats(plan, &args, stream));
    const unsigned query_blocks = tamisi_gpu_tiles(facts->lse2_rows, tamisi_gpu_entry(plan, TAMISI_SCORE_MERGE)->block_m);
    TAMIS_TRY(tamisi_gpu_launch(plan, TAMISI_SCORE_MERGE, query_blocks, (unsigned)problem->q_heads, (unsigned)problem->batch,
                                &args, stream));
    return launch_sum(plan, &args, stream);
}
