/*
 * cpu_score.c: steps 1 and 2 on the CPU: the window's log-sum-exp over all keys, each key's mean probability, and the
 * moving average with the sums that heads choose by.
 */
#include "cpu_stage.h"

#define POOL_TILE 512 /* candidates pooled together */

struct score_work {
    const tamis_plan *plan;
    const tamis_tensor *q, *k;
    double *lse; /* (B, Hq, W) */
    float *score;
    float *rank, *mean;
};

/* Head number `row` of all B * Hq. */
static struct tamisi_cpu_score score_of(const struct score_work *work, long long row)
{
    const tamis_problem *problem = &work->plan->problem;
    const long long sequence = row / problem->q_heads, head = row % problem->q_heads;
    return (struct tamisi_cpu_score){.q = tamisi_cpu_rows_of(work->q, sequence, head),
                                     .k = tamisi_cpu_rows_of(work->k, sequence, head / work->plan->facts.group),
                                     .lse = work->lse + row * problem->selection.window,
                                     .score = work->score + row * work->plan->facts.candidates,
                                     .seq_len = problem->seq_len,
                                     .window = problem->selection.window,
                                     .head_dim = problem->head_dim,
                                     .dtype = problem->dtype,
                                     .scale = work->plan->facts.scale};
}

static void lse_tile(void *argument, long long index)
{
    const struct score_work *work = argument;
    const long long tiles = tamisi_cpu_tiles(work->plan->problem.selection.window, TAMISI_CPU_TILE);
    const struct tamisi_cpu_score score = score_of(work, index / tiles);
    tamisi_cpu_of(work->plan)->arithmetic->score_lse(&score, (int)(index % tiles) * TAMISI_CPU_TILE);
}

static void mean_tile(void *argument, long long index)
{
    const struct score_work *work = argument;
    const long long tiles = tamisi_cpu_tiles(work->plan->facts.candidates, TAMISI_CPU_TILE);
    const struct tamisi_cpu_score score = score_of(work, index / tiles);
    tamisi_cpu_of(work->plan)->arithmetic->score_mean(&score, index % tiles * TAMISI_CPU_TILE);
}

/* Moving average around j, zeros outside, always divided by `pool`. */
static double pooled(const float *score, long long candidates, long long j, int pool)
{
    const long long first = j - pool / 2 < 0 ? 0 : j - pool / 2;
    const long long last = j + pool / 2 >= candidates ? candidates - 1 : j + pool / 2;
    double sum = 0;
    for (long long i = first; i <= last; i++) sum += (double)score[i];
    return sum / pool;
}

static void pool_tile(void *argument, long long index)
{
    const struct score_work *work = argument;
    const tamis_problem *problem = &work->plan->problem;
    const long long candidates = work->plan->facts.candidates, tiles = tamisi_cpu_tiles(candidates, POOL_TILE);
    const long long sequence = index / tiles, first = index % tiles * POOL_TILE;
    const int count = (int)(candidates - first < POOL_TILE ? candidates - first : POOL_TILE);
    const int q_heads = problem->q_heads, index_heads = work->plan->facts.index_heads, group = q_heads / index_heads;
    /* `layer` ranks by the mean over its heads, `kv_group` by the sum: they differ in rounding only. */
    const double divisor = problem->selection.scope == TAMIS_SCOPE_LAYER ? q_heads : 1;
    double mean[POOL_TILE] = {0}, rank[POOL_TILE];

    for (int head = 0; head < q_heads; head++) {
        const float *score = work->score + (sequence * q_heads + head) * candidates;
        for (int i = 0; i < count; i++) {
            const double value = pooled(score, candidates, first + i, problem->selection.pool);
            rank[i] = head % group == 0 ? value : rank[i] + value;
            mean[i] += value;
        }
        if (head % group != group - 1) continue;
        float *out = work->rank + (sequence * index_heads + head / group) * candidates + first;
        for (int i = 0; i < count; i++) out[i] = (float)(rank[i] / divisor);
    }
    for (int i = 0; i < count; i++) work->mean[sequence * candidates + first + i] = (float)(mean[i] / q_heads);
}

void tamisi_cpu_score(const tamis_plan *plan, const tamis_tensor *q, const tamis_tensor *k, float *score, float *rank,
                      float *mean, char *workspace)
{
    const tamis_problem *problem = &plan->problem;
    const long long heads = (long long)problem->batch * problem->q_heads, candidates = plan->facts.candidates;
    struct tamisi_cpu_threads *threads = tamisi_cpu_of(plan)->threads;
    if (candidates == 0) return;
    /* `partial` has two floats for each row and chunk: room for one double a row. */
    struct score_work work = {plan, q, k, (double *)(void *)(workspace + plan->workspace.partial), score, rank, mean};

    tamisi_cpu_threads_run(threads, heads * tamisi_cpu_tiles(problem->selection.window, TAMISI_CPU_TILE), lse_tile, &work);
    tamisi_cpu_threads_run(threads, heads * tamisi_cpu_tiles(candidates, TAMISI_CPU_TILE), mean_tile, &work);
    if (rank)
        tamisi_cpu_threads_run(threads, problem->batch * tamisi_cpu_tiles(candidates, POOL_TILE), pool_tile, &work);
}
