/*
 * tune_tasks.c: from a spec's shapes and variants to tasks: every family that a plan of such a shape launches, each bucket
 * once. Pure.
 */
#include "tune.h"

#include "error.h"
#include "gpu.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Those that block-sparse attention is measured at. Of published patterns' lists, most are near the last, short ones' near the
   first. */
const double tune_densities[TUNE_DENSITIES] = {0.5, 0.25, 0.1};

static bool is_for(const struct tamisi_variant *variant, const char *family, const tamis_problem *problem)
{
    return strcmp(variant->family, family) == 0 && (variant->dtype == TAMISI_ANY || variant->dtype == (int)problem->dtype) &&
           (variant->head_dim == 0 || variant->head_dim == problem->head_dim);
}

/* Variants come sorted by rank, with families mixed: each family's own are copied together. */
static tamis_status copy_candidates(struct tune_task *task, const struct tamisi_variant *variants, size_t count)
{
    struct tamisi_variant *copies = malloc((count + 1) * sizeof *copies);
    if (!copies) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the candidates");
    task->candidates = copies;
    for (size_t i = 0; i < count; i++)
        if (is_for(&variants[i], task->family, &task->problem)) copies[task->count++] = variants[i];
    if (task->count > 0) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "no %s kernel for head_dim %d and this dtype: run tamis gen", task->family,
                       task->problem.head_dim);
}

static bool is_known(const struct tune_tasks *tasks, const struct tune_task *task)
{
    for (size_t i = 0; i < tasks->count; i++)
        if (strcmp(tasks->tasks[i].family, task->family) == 0 && tamisi_bucket_equal(&tasks->tasks[i].bucket, &task->bucket))
            return true;
    return false;
}

static tamis_status add_task(struct tune_tasks *tasks, const char *family, const tamis_problem *problem,
                             const struct tamisi_facts *facts, const struct tamisi_variant *variants, size_t count)
{
    struct tune_task *task = &tasks->tasks[tasks->count];
    *task = (struct tune_task){.family = family, .problem = *problem};
    tamisi_bucket_make(&task->bucket, family, problem, facts->capacity, facts->dense);
    if (is_known(tasks, task)) return TAMIS_OK;
    tasks->count++;
    return copy_candidates(task, variants, count);
}

/* ---- block patterns */

static bool has_any(const char *family, const tamis_problem *problem, const struct tamisi_variant *variants, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_for(&variants[i], family, problem)) return true;
    return false;
}

static tamis_status add_lists_task(struct tune_tasks *tasks, const char *family, const tamis_problem *problem,
                                   const struct tune_lists *lists, const struct tamisi_variant *variants, size_t count)
{
    struct tune_task *task = &tasks->tasks[tasks->count];
    if (!has_any(family, problem, variants, count)) return TAMIS_OK;
    *task = (struct tune_task){.family = family, .problem = *problem, .lists = *lists};
    tamisi_bucket_make_lists(&task->bucket, family, problem, problem->seq_len, true, &lists->pattern, lists->density);
    if (is_known(tasks, task)) return TAMIS_OK;
    tasks->count++;
    return copy_candidates(task, variants, count);
}

/* Of all rows, on which a dense plan attends; under another mask there are no patterns. */
static tamis_status add_lists(struct tune_tasks *tasks, const struct tune_shapes *shapes, const tamis_problem *problem,
                              const struct tamisi_variant *variants, size_t count)
{
    struct tune_lists random = {.pattern = TAMIS_PATTERN_INIT}, made = {.pattern = shapes->pattern};
    if (problem->mask != TAMIS_CAUSAL) return TAMIS_OK;
    random.pattern.kind = TAMIS_PATTERN_HOST_BLOCKS;
    for (int d = 0; d < TUNE_DENSITIES; d++) {
        random.density = tune_densities[d];
        TAMIS_TRY(add_lists_task(tasks, "attend_blocks", problem, &random, variants, count));
    }
    for (int i = TAMISI_FAMILY_COUNT; i < TAMISI_ALL_FAMILIES; i++) {
        const char *family = tamisi_gpu_families[i];
        const bool makes = tamisi_family_has_lists(family) && strcmp(family, "attend_blocks") != 0;
        if (makes && tamisi_gpu_pattern_needs(shapes->pattern.kind, family))
            TAMIS_TRY(add_lists_task(tasks, family, problem, &made, variants, count));
    }
    return TAMIS_OK;
}

/* ---- all of a spec */

/* By a plan with whichever attention; without any there is no such plan, which add_task() says. */
static bool may_be_launched(const char *family, const tamis_problem *problem, const struct tamisi_facts *facts,
                            const struct tamisi_variant *variants, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (is_for(&variants[i], "attend", problem) && tamisi_gpu_launches(family, facts, &variants[i])) return true;
    return strcmp(family, "attend") == 0;
}

bool tune_is_launched(const struct tune_task *task, const struct tamisi_variant *attend)
{
    struct tamisi_facts facts;
    tamisi_facts_make(&facts, &task->problem);
    return tamisi_gpu_launches(task->family, &facts, attend);
}

static tamis_status add_shape(struct tune_tasks *tasks, const tamis_problem *problem, const struct tamisi_variant *variants,
                              size_t count)
{
    struct tamisi_facts facts;
    TAMIS_TRY(tamisi_problem_check(problem));
    tamisi_facts_make(&facts, problem);
    for (int i = 0; i < TAMISI_FAMILY_COUNT; i++)
        if (may_be_launched(tamisi_gpu_families[i], problem, &facts, variants, count))
            TAMIS_TRY(add_task(tasks, tamisi_gpu_families[i], problem, &facts, variants, count));
    return TAMIS_OK;
}

static tamis_status add_all(struct tune_tasks *tasks, const struct tune_shapes *shapes, const struct tamisi_variant *variants,
                            size_t count)
{
    for (int l = 0; l < shapes->length_count; l++) {
        tamis_problem problem = shapes->problem;
        problem.seq_len = shapes->lengths[l];
        problem.selection.policy = TAMIS_DENSE;
        if (shapes->dense) TAMIS_TRY(add_shape(tasks, &problem, variants, count));
        problem.selection.policy = TAMIS_RATIO;
        for (int r = 0; r < shapes->ratio_count; r++) {
            problem.selection.ratio = shapes->ratios[r];
            TAMIS_TRY(add_shape(tasks, &problem, variants, count));
        }
        problem.selection.policy = TAMIS_DENSE;
        TAMIS_TRY(add_lists(tasks, shapes, &problem, variants, count));
    }
    return TAMIS_OK;
}

tamis_status tune_tasks_make(struct tune_tasks *out, const struct tune_shapes *shapes, const struct tamisi_variant *variants,
                             size_t count)
{
    const size_t shape_count = 1 + (size_t)shapes->ratio_count;
    const size_t most = (size_t)shapes->length_count *
                        (shape_count * TAMISI_FAMILY_COUNT + TUNE_DENSITIES + TAMISI_PATTERN_FAMILIES);
    *out = (struct tune_tasks){calloc(most + 1, sizeof *out->tasks), 0};
    if (!out->tasks) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu tasks", most);
    const tamis_status status = add_all(out, shapes, variants, count);
    if (status != TAMIS_OK) tune_tasks_free(out);
    return status;
}

void tune_tasks_free(struct tune_tasks *tasks)
{
    for (size_t i = 0; i < tasks->count; i++) free((void *)(uintptr_t)tasks->tasks[i].candidates);
    free(tasks->tasks);
    *tasks = (struct tune_tasks){NULL, 0};
}

#define CANDIDATE_SECONDS 0.1 /* to load and check one, whatever its size */
#define RUNS 8.0              /* of attention a candidate, on average over those stopped early; else one, to check it */
#define FLOPS 3e14            /* a second, of attention; all else is small beside it */

double tune_cost(const struct tune_task *task)
{
    const struct tamisi_bucket *bucket = &task->bucket;
    const double rows = (double)bucket->kept;
    const bool on_lists = task->lists.pattern.kind == TAMIS_PATTERN_HOST_BLOCKS;
    const double part = on_lists ? task->lists.density : 1;
    const double flops = part * 2 * rows * rows * bucket->head_dim * bucket->q_heads * bucket->batch;
    const bool makes = !on_lists && task->lists.pattern.kind != TAMIS_PATTERN_NONE; /* of which no attention is part */
    const double runs = on_lists || strcmp(task->family, "attend") == 0 ? RUNS : makes ? 0 : 1;
    return (double)task->count * (CANDIDATE_SECONDS + runs * flops / FLOPS);
}
