/*
 * bench_operator.c: one problem: arrays on the device, a run that is checked, the steps checked by the same samples, then
 * the rounds of both. The compress step is timed as the one call uses it, for K and V: there the attention kernel gathers Q
 * itself. Decompress places all rows, where in the one call the kernel has placed its own, and zeros are left at most.
 */
#include "bench_operator.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum array_id {
    Q, K, V, OUTPUT, WORKSPACE, KEPT, INDICES, /* what a run takes */
    SCORE, RANK, MEAN, COMPACT_Q, COMPACT_K, COMPACT_V, COMPACT_OUTPUT, /* the steps' */
    ARRAYS
};

struct trial {
    struct bench *bench;
    const tamis_problem *problem;
    tamis_plan *plan;
    void *arrays[ARRAYS];
    size_t bytes[ARRAYS];
    int32_t *kept, *lists; /* on the host: (B), and (Hi, C) of one sequence */
};

static tamis_tensor tensor_of(const struct trial *trial, enum array_id id, int heads, long long rows)
{
    const long long dim = trial->problem->head_dim;
    return (tamis_tensor){trial->arrays[id], heads * rows * dim, rows * dim, dim};
}

/* ---- memory */

static tamis_status allocate(struct trial *trial, enum array_id first, enum array_id last)
{
    for (int id = first; id <= (int)last; id++)
        TAMIS_TRY(tamis_memory_alloc(&trial->arrays[id], trial->bench->context, trial->bytes[id] ? trial->bytes[id] : 1));
    return TAMIS_OK;
}

static void find_sizes(struct trial *trial)
{
    const tamis_problem *p = trial->problem;
    const long long capacity = tamis_plan_capacity(trial->plan), before = p->seq_len - p->selection.window;
    const size_t batch = (size_t)p->batch, rows = batch * (size_t)p->seq_len, compact_rows = batch * (size_t)capacity;
    const size_t row_bytes = 2 * (size_t)p->head_dim, q_heads = (size_t)p->q_heads, kv_heads = (size_t)p->kv_heads;
    const size_t lists = (size_t)tamis_plan_index_heads(trial->plan);
    const size_t compact_heads = (size_t)tamis_plan_compact_heads(trial->plan);
    const size_t scores = batch * (size_t)(before > 0 ? before : 0) * sizeof(float);
    size_t *bytes = trial->bytes;
    bytes[Q] = bytes[OUTPUT] = rows * q_heads * row_bytes;
    bytes[K] = bytes[V] = rows * kv_heads * row_bytes;
    bytes[WORKSPACE] = tamis_plan_workspace_bytes(trial->plan);
    bytes[KEPT] = batch * sizeof(int32_t);
    bytes[INDICES] = compact_rows * lists * sizeof(int32_t);
    bytes[SCORE] = scores * q_heads;
    bytes[RANK] = scores * lists;
    bytes[MEAN] = scores;
    bytes[COMPACT_Q] = bytes[COMPACT_OUTPUT] = compact_rows * q_heads * row_bytes;
    bytes[COMPACT_K] = bytes[COMPACT_V] = compact_rows * compact_heads * row_bytes;
}

static tamis_status fill(struct trial *trial)
{
    static const int shifts[] = {[Q] = 0, [K] = 40, [V] = 24};
    const tamis_problem *p = trial->problem;
    find_sizes(trial);
    TAMIS_TRY(allocate(trial, Q, INDICES));
    for (int id = Q; id <= V; id++)
        TAMIS_TRY(bench_fill(trial->bench, trial->arrays[id], p, p->batch * (id == Q ? p->q_heads : p->kv_heads), p->seq_len,
                             shifts[id]));
    trial->kept = malloc(trial->bytes[KEPT]);
    trial->lists = malloc(trial->bytes[INDICES] / (size_t)p->batch);
    return trial->kept && trial->lists ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for the kept tokens' positions");
}

/* ---- work on the stream */

static tamis_status run(struct trial *trial, bool lists)
{
    const tamis_problem *p = trial->problem;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_of(trial, Q, p->q_heads, p->seq_len);
    args.k = tensor_of(trial, K, p->kv_heads, p->seq_len);
    args.v = tensor_of(trial, V, p->kv_heads, p->seq_len);
    args.output = tensor_of(trial, OUTPUT, p->q_heads, p->seq_len);
    if (lists) {
        args.kept = trial->arrays[KEPT];
        args.indices = trial->arrays[INDICES];
    }
    return tamis_run(trial->plan, &args, trial->arrays[WORKSPACE], trial->bytes[WORKSPACE], trial->bench->stream);
}

static tamis_status mark(const struct trial *trial)
{
    return stopwatch_mark(&trial->bench->watch, trial->bench->stream);
}

static tamis_status run_round(void *payload)
{
    struct trial *trial = payload;
    TAMIS_TRY(mark(trial));
    TAMIS_TRY(run(trial, false));
    return mark(trial);
}

/*
 * What comes before attention, `marked` between its steps, which then cannot run into each other. Q is the same in all rounds:
 * only the first gathers it, for the attend step.
 */
static tamis_status before_attention(struct trial *trial, bool marked, bool gather_q)
{
    const tamis_problem *p = trial->problem;
    const tamis_plan *plan = trial->plan;
    const tamis_stream stream = trial->bench->stream;
    const long long rows = tamis_plan_capacity(plan);
    const int compact_heads = tamis_plan_compact_heads(plan);
    void **a = trial->arrays, *workspace = a[WORKSPACE];
    const size_t bytes = trial->bytes[WORKSPACE];
    const tamis_tensor q = tensor_of(trial, Q, p->q_heads, p->seq_len), k = tensor_of(trial, K, p->kv_heads, p->seq_len);
    const tamis_tensor v = tensor_of(trial, V, p->kv_heads, p->seq_len);
    const tamis_tensor compact_q = tensor_of(trial, COMPACT_Q, p->q_heads, rows);
    const tamis_tensor compact_k = tensor_of(trial, COMPACT_K, compact_heads, rows);
    const tamis_tensor compact_v = tensor_of(trial, COMPACT_V, compact_heads, rows);

    TAMIS_TRY(mark(trial));
    TAMIS_TRY(tamis_score(plan, &q, &k, a[SCORE], a[RANK], a[MEAN], workspace, bytes, stream));
    if (marked) TAMIS_TRY(mark(trial));
    TAMIS_TRY(tamis_select(plan, a[RANK], a[MEAN], a[KEPT], a[INDICES], workspace, bytes, stream));
    if (marked) TAMIS_TRY(mark(trial));
    TAMIS_TRY(tamis_compress(plan, gather_q ? &q : NULL, &k, &v, a[KEPT], a[INDICES], gather_q ? &compact_q : NULL, &compact_k,
                             &compact_v, workspace, bytes, stream));
    return mark(trial);
}

static tamis_status rest_round(void *payload) { return before_attention(payload, false, false); }

static tamis_status steps(struct trial *trial, bool gather_q)
{
    const tamis_problem *p = trial->problem;
    const tamis_plan *plan = trial->plan;
    const tamis_stream stream = trial->bench->stream;
    const long long rows = tamis_plan_capacity(plan);
    const int compact_heads = tamis_plan_compact_heads(plan);
    void **a = trial->arrays, *workspace = a[WORKSPACE];
    const size_t bytes = trial->bytes[WORKSPACE];
    const tamis_tensor compact_q = tensor_of(trial, COMPACT_Q, p->q_heads, rows);
    const tamis_tensor compact_k = tensor_of(trial, COMPACT_K, compact_heads, rows);
    const tamis_tensor compact_v = tensor_of(trial, COMPACT_V, compact_heads, rows);
    const tamis_tensor compact_output = tensor_of(trial, COMPACT_OUTPUT, p->q_heads, rows);
    const tamis_tensor output = tensor_of(trial, OUTPUT, p->q_heads, p->seq_len);

    TAMIS_TRY(before_attention(trial, true, gather_q));
    TAMIS_TRY(tamis_attend(plan, &compact_q, &compact_k, &compact_v, a[KEPT], &compact_output, NULL, workspace, bytes, stream));
    TAMIS_TRY(mark(trial));
    TAMIS_TRY(tamis_decompress(plan, &compact_output, NULL, a[KEPT], a[INDICES], &output, NULL, workspace, bytes, stream));
    return mark(trial);
}

static tamis_status steps_round(void *payload) { return steps(payload, false); }

/* ---- the check */

static tamis_status poison(struct trial *trial)
{
    static const enum array_id ids[] = {OUTPUT, KEPT, INDICES};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
        TAMIS_TRY(bench_poison(trial->bench, trial->arrays[ids[i]], trial->bytes[ids[i]]));
    return TAMIS_OK;
}

/* Only counts within bounds say how much of a list there is to read. */
static bool counts_are_right(const struct trial *trial, struct bench_operator_figure *out)
{
    const tamis_problem *p = trial->problem;
    const bool fixed = p->selection.policy != TAMIS_COVERAGE;
    const long long window = p->selection.window < p->seq_len ? p->selection.window : p->seq_len;
    const long long least = fixed ? out->capacity : window;
    out->kept_least = out->capacity;
    for (int b = 0; b < p->batch; b++) {
        const long long kept = trial->kept[b];
        if (kept < least || kept > out->capacity) {
            snprintf(out->wrong, sizeof out->wrong, "sequence %d keeps %lld tokens, of %lld to %lld that are right", b, kept,
                     least, out->capacity);
            return false;
        }
        if (kept < out->kept_least) out->kept_least = kept;
        if (kept > out->run.rows) out->run.rows = kept;
    }
    return true;
}

static tamis_status check_sequence(struct trial *trial, struct bench_operator_figure *out, int sequence)
{
    struct bench *bench = trial->bench;
    const tamis_problem *p = trial->problem;
    const size_t bytes = trial->bytes[INDICES] / (size_t)p->batch;
    const char *lists = (const char *)trial->arrays[INDICES] + (size_t)sequence * bytes;
    const struct bench_arrays arrays = {.q = trial->arrays[Q],
                                        .k = trial->arrays[K],
                                        .v = trial->arrays[V],
                                        .output = trial->arrays[OUTPUT],
                                        .kv_heads = p->kv_heads,
                                        .rows = p->seq_len,
                                        .sequence = sequence,
                                        .lists = trial->lists,
                                        .index_heads = tamis_plan_index_heads(trial->plan),
                                        .capacity = out->capacity,
                                        .kept = trial->kept[sequence]};
    struct bench_figure figure = {.right = false};
    TAMIS_TRY(tamis_memory_read(bench->context, trial->lists, lists, bytes, bench->stream));
    TAMIS_TRY(bench_check(bench, &figure, p, &arrays));
    if (!(figure.error <= out->run.error)) out->run.error = figure.error;
    out->run.error_limit = figure.error_limit;
    out->run.right = figure.right;
    if (!figure.right)
        snprintf(out->wrong, sizeof out->wrong, "sequence %d: the error is %.3g, at most %g is right", sequence, figure.error,
                 figure.error_limit);
    return TAMIS_OK;
}

/* What the stream has left: the first and the last sequence. */
static tamis_status check(struct trial *trial, struct bench_operator_figure *out)
{
    struct bench *bench = trial->bench;
    const int last = trial->problem->batch - 1;
    out->run.right = false;
    TAMIS_TRY(tamis_memory_read(bench->context, trial->kept, trial->arrays[KEPT], trial->bytes[KEPT], bench->stream));
    if (!counts_are_right(trial, out)) return TAMIS_OK;
    TAMIS_TRY(check_sequence(trial, out, 0));
    if (!out->run.right || last == 0) return TAMIS_OK;
    return check_sequence(trial, out, last);
}

/* ---- all of it */

static tamis_status measure_run(struct trial *trial, struct bench_operator_figure *out)
{
    struct bench_time time;
    TAMIS_TRY(poison(trial));
    TAMIS_TRY(run(trial, true));
    TAMIS_TRY(check(trial, out));
    if (!out->run.right) return TAMIS_OK;
    TAMIS_TRY(bench_time_rounds(trial->bench, &time, 1, &out->run.sm_mhz, run_round, trial));
    out->run.ms = time.ms;
    out->run.least_ms = time.least_ms;
    out->run.most_ms = time.most_ms;
    return TAMIS_OK;
}

static tamis_status measure_steps(struct trial *trial, struct bench_operator_figure *out)
{
    char wrong[sizeof out->wrong];
    TAMIS_TRY(allocate(trial, SCORE, COMPACT_OUTPUT));
    TAMIS_TRY(poison(trial));
    trial->bench->watch.count = 0;
    TAMIS_TRY(steps(trial, true));
    TAMIS_TRY(check(trial, out));
    if (!out->run.right) {
        memcpy(wrong, out->wrong, sizeof wrong);
        snprintf(out->wrong, sizeof out->wrong, "in steps, %.*s", (int)sizeof out->wrong - 16, wrong);
        return TAMIS_OK;
    }
    TAMIS_TRY(bench_time_rounds(trial->bench, out->step, RUNNER_STEPS, NULL, steps_round, trial));
    struct bench_time rest;
    TAMIS_TRY(bench_time_rounds(trial->bench, &rest, 1, NULL, rest_round, trial));
    out->rest_ms = rest.ms;
    out->steps = true;
    return TAMIS_OK;
}

static tamis_status measure(struct trial *trial, struct bench_operator_figure *out)
{
    out->capacity = tamis_plan_capacity(trial->plan);
    out->workspace_bytes = tamis_plan_workspace_bytes(trial->plan);
    bench_name_variant(out->run.variant, trial->plan);
    TAMIS_TRY(fill(trial));
    TAMIS_TRY(measure_run(trial, out));
    const bool dense = trial->problem->selection.policy == TAMIS_DENSE; /* its one step is the run */
    return out->run.right && !dense ? measure_steps(trial, out) : TAMIS_OK;
}

tamis_status bench_operator_measure(struct bench *bench, struct bench_operator_figure *out,
                                    const struct bench_case *bench_case)
{
    struct trial trial = {.bench = bench, .problem = &bench_case->problem};
    *out = (struct bench_operator_figure){.steps = false};
    tamis_status status = tamis_plan_create(&trial.plan, bench->context, bench_case->store, &bench_case->problem);
    if (status == TAMIS_OK) status = measure(&trial, out);
    for (int i = 0; i < ARRAYS; i++) tamis_memory_free(bench->context, trial.arrays[i]);
    free(trial.kept);
    free(trial.lists);
    tamis_plan_free(trial.plan);
    return status;
}
