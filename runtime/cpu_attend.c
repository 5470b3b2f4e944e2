/*
 * cpu_attend.c: step 6 on the CPU: which tiles of queries there are, and where their rows lie. The arithmetic is in
 * cpu_tile.inc.
 */
#include "cpu_stage.h"

struct attend_work {
    const tamis_plan *plan;
    const struct tamisi_cpu_attend_args *args;
    long long tiles; /* of the longest sequence possible */
};

bool tamisi_cpu_attend_tile(struct tamisi_cpu_attend *out, struct tamisi_cpu_place *place, const tamis_plan *plan,
                            const struct tamisi_cpu_attend_args *args, long long tiles, long long index)
{
    const tamis_problem *problem = &plan->problem;
    const struct tamisi_facts *facts = &plan->facts;
    const long long rows = (long long)problem->batch * problem->q_heads;
    const long long row = index % rows, first = (tiles - 1 - index / rows) * TAMISI_CPU_TILE;
    const long long sequence = row / problem->q_heads, head = row % problem->q_heads;
    const long long count = args->kept ? args->kept[sequence] : problem->seq_len;
    if (first >= count) return false;

    const long long kv_head = head / (problem->q_heads / args->kv_heads);
    const long long list = sequence * facts->index_heads + head / (problem->q_heads / facts->index_heads);
    const long long matrix = (long long)problem->head_dim * problem->head_dim;
    *place = (struct tamisi_cpu_place){row, first};
    *out = (struct tamisi_cpu_attend){.q = tamisi_cpu_rows_of(args->q, sequence, head),
                                      .k = tamisi_cpu_rows_of(args->k, sequence, kv_head),
                                      .v = tamisi_cpu_rows_of(args->v, sequence, kv_head),
                                      .output = tamisi_cpu_rows_of(args->output, sequence, head),
                                      .lse = args->lse ? args->lse + row * args->lse_rows : NULL,
                                      .indices = args->indices ? args->indices + list * facts->capacity : NULL,
                                      .count = count,
                                      .head_dim = problem->head_dim,
                                      .dtype = problem->dtype,
                                      .scale = facts->scale,
                                      .causal = problem->mask == TAMIS_CAUSAL,
                                      .output_map = args->output_map ? args->output_map + head * matrix : NULL};
    return true;
}

static void attend_tile(void *argument, long long index)
{
    const struct attend_work *work = argument;
    struct tamisi_cpu_attend attend;
    struct tamisi_cpu_place place;
    if (tamisi_cpu_attend_tile(&attend, &place, work->plan, work->args, work->tiles, index))
        tamisi_cpu_of(work->plan)->arithmetic->attend(&attend, place.first);
}

void tamisi_cpu_attend(const tamis_plan *plan, const struct tamisi_cpu_attend_args *args)
{
    const long long longest = args->kept ? plan->facts.capacity : plan->problem.seq_len;
    struct attend_work work = {plan, args, tamisi_cpu_tiles(longest, TAMISI_CPU_TILE)};
    tamisi_cpu_threads_run(tamisi_cpu_of(plan)->threads, (long long)plan->problem.batch * plan->problem.q_heads * work.tiles,
                           attend_tile, &work);
}
