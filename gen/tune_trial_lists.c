/*
 * tune_trial_lists.c: a trial's lists of blocks: chosen at random, for attention on them; or what a maker's candidate leaves,
 * looked at. See tune_trial.h.
 */
#define _GNU_SOURCE
#include "tune_trial.h"

#include "error.h"
#include "structured.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTS_SEED 20260102 /* the same lists for every candidate, and in every run */
#define STRUCTURE_SEED 1
#define REFERENCE_SECONDS 15.0 /* that a reference in double precision may take, of the minute that an answer has */

bool tune_trial_makes(const struct tune_trial *trial)
{
    const tamis_pattern_kind kind = trial->lists.pattern.kind;
    return kind != TAMIS_PATTERN_NONE && kind != TAMIS_PATTERN_HOST_BLOCKS;
}

/* ---- what there is before a candidate runs */

/* As `tamis bench attention --density` chooses them. */
static tamis_status list_at_random(struct tune_trial *trial)
{
    struct bench *bench = trial->bench;
    const tamis_problem *p = &trial->problem;
    const int tiles = (int)((p->seq_len + TAMIS_BLOCK_SIZE - 1) / TAMIS_BLOCK_SIZE);
    int32_t *count, *list;
    TAMIS_TRY(block_mask_random(&trial->mask, (long long)p->batch * p->q_heads, tiles, trial->lists.density, LISTS_SEED));
    TAMIS_TRY(block_mask_lists(&trial->mask, &count, &list));
    tamis_status status = tamis_memory_write(bench->context, trial->arrays[TUNE_BLOCK_COUNT].data, count,
                                             trial->arrays[TUNE_BLOCK_COUNT].bytes, bench->stream);
    if (status == TAMIS_OK)
        status = tamis_memory_write(bench->context, trial->arrays[TUNE_BLOCK_LIST].data, list,
                                    trial->arrays[TUNE_BLOCK_LIST].bytes, bench->stream);
    free(count);
    free(list);
    return status;
}

/* Of random Q and K a maker would list nearly all, or by ways that it seldom takes: they are as `tamis bench compose` has them.
   Every token counts. */
static tamis_status fill_structured(struct tune_trial *trial)
{
    const struct structured structure = STRUCTURED_INIT;
    const int32_t kept = (int32_t)trial->problem.seq_len;
    TAMIS_TRY(structured_fill(trial->bench, &structure, &trial->problem, trial->arrays[TUNE_Q].data, trial->arrays[TUNE_K].data,
                              trial->arrays[TUNE_V].data, STRUCTURE_SEED));
    return tamis_memory_write(trial->bench->context, trial->arrays[TUNE_KEPT].data, &kept, sizeof kept, trial->bench->stream);
}

tamis_status tune_trial_prepare_lists(struct tune_trial *trial)
{
    if (tune_trial_makes(trial)) return fill_structured(trial);
    return trial->lists.pattern.kind == TAMIS_PATTERN_HOST_BLOCKS ? list_at_random(trial) : TAMIS_OK;
}

void tune_trial_forget_lists(struct tune_trial *trial)
{
    block_mask_free(&trial->mask);
    tune_made_free(&trial->reference);
}

/* ---- what a maker leaves */

/* Batch is 1: a head is one of K's, and the last is as good as any. */
static tamis_status read_part(struct tune_trial *trial, void *out, enum tune_array id, size_t at, size_t bytes)
{
    return tamis_memory_read(trial->bench->context, out, (const char *)trial->arrays[id].data + at, bytes,
                             trial->bench->stream);
}

static tamis_status read_lists(struct tune_trial *trial, const tamis_plan *plan, struct tune_made *out)
{
    const int tiles = tamis_plan_block_count(plan);
    const size_t row = (size_t)tiles * sizeof(int32_t), before = (size_t)(trial->problem.q_heads - 1) * row;
    TAMIS_TRY(tune_made_alloc(out, 1, tiles));
    TAMIS_TRY(read_part(trial, out->count, TUNE_BLOCK_COUNT, before, row));
    TAMIS_TRY(read_part(trial, out->list, TUNE_BLOCK_LIST, before * (size_t)tiles, row * (size_t)tiles));
    if (!tamisi_pattern_has_masks(&plan->pattern)) return TAMIS_OK;
    return read_part(trial, out->masks, TUNE_WORKSPACE, plan->workspace.block_masks,
                     TAMISI_PATTERN_MASKS * TAMIS_BLOCK_MASK_WORDS * sizeof *out->masks);
}

static tamis_status compute(struct tune_trial *trial)
{
    const tamis_problem *p = &trial->problem;
    const size_t head = (size_t)p->seq_len * (size_t)p->head_dim * 2;
    uint16_t *q = malloc(head), *k = malloc(head);
    tamis_status status = q && k ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for a head");
    if (status == TAMIS_OK) status = read_part(trial, q, TUNE_Q, (size_t)(p->q_heads - 1) * head, head);
    if (status == TAMIS_OK) status = read_part(trial, k, TUNE_K, (size_t)(p->kv_heads - 1) * head, head);
    if (status == TAMIS_OK) status = tune_made_of_head(&trial->reference, p, &trial->lists.pattern, q, k);
    free(q);
    free(k);
    return status;
}

/* What takes too long in double precision is compared with what the first one left, the default, which is looked at before
   any other; of that, with itself. */
static tamis_status find_reference(struct tune_trial *trial, const tamis_plan *plan)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const double seconds = tune_made_seconds(&trial->problem, &trial->lists.pattern) / (double)(cores > 0 ? cores : 1);
    if (trial->reference.count) return TAMIS_OK;
    return seconds <= REFERENCE_SECONDS ? compute(trial) : read_lists(trial, plan, &trial->reference);
}

tamis_status tune_trial_check_lists(struct tune_trial *trial, const tamis_plan *plan, char why[TUNE_WHY])
{
    const int32_t rows = (int32_t)trial->problem.seq_len;
    struct tune_made made = {.heads = 0};
    tamis_status status = find_reference(trial, plan);
    if (status == TAMIS_OK) status = read_lists(trial, plan, &made);
    if (status == TAMIS_OK) tune_made_compare(&made, &trial->reference, &rows, 1, why);
    tune_made_free(&made);
    return status;
}
