/*
 * pattern_bench.c: see pattern_bench.h.
 */
#include "pattern_bench.h"

#include "cpu_case.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

#define OK(call)                                                                                                           \
    do {                                                                                                                   \
        const tamis_status status_ = (call);                                                                               \
        if (status_ != TAMIS_OK) ck_abort_msg("%s: %s", tamis_status_name(status_), tamis_last_error());                  \
    } while (0)

static tamis_tensor tensor(uint16_t *data, int heads, long long rows, int dim)
{
    return (tamis_tensor){data, heads * rows * dim, rows * dim, dim};
}

void pattern_bench_open(struct pattern_bench *bench, const tamis_pattern *pattern, int batch, int q_heads, int kv_heads,
                        int dim, long long rows)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_plan_options plan_options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    const size_t row = (size_t)dim * sizeof *bench->q;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    problem.batch = batch;
    problem.q_heads = q_heads;
    problem.kv_heads = kv_heads;
    problem.head_dim = dim;
    problem.seq_len = rows;
    problem.selection.scope = TAMIS_SCOPE_KV_GROUP; /* the step's K has the KV heads */
    plan_options.pattern = pattern;
    *bench = (struct pattern_bench){.context = NULL};
    OK(tamis_context_create(&bench->context, &options));
    OK(tamis_plan_create_with(&bench->plan, bench->context, NULL, &problem, &plan_options));
    bench->c = (struct pattern_case){.pattern = pattern,
                                     .batch = batch,
                                     .q_heads = q_heads,
                                     .kv_heads = kv_heads,
                                     .head_dim = dim,
                                     .capacity = rows,
                                     .dtype = problem.dtype,
                                     .scale = 1 / sqrt((double)dim)};
    const size_t lists = (size_t)(batch * q_heads * pattern_tiles(&bench->c));
    bench->workspace_bytes = tamis_plan_workspace_bytes(bench->plan);
    bench->workspace = guarded_alloc(bench->workspace_bytes);
    bench->q = guarded_alloc((size_t)(batch * q_heads * rows) * row);
    bench->k = guarded_alloc((size_t)(batch * kv_heads * rows) * row);
    bench->count = guarded_alloc(lists * sizeof *bench->count);
    bench->list = guarded_alloc(lists * (size_t)pattern_tiles(&bench->c) * sizeof *bench->list);
    bench->c.q = bench->q;
    bench->c.k = bench->k;
}

void pattern_bench_fill(struct pattern_bench *bench, enum pattern_input input)
{
    const struct pattern_case *c = &bench->c;
    for (int b = 0; b < c->batch; b++) {
        pattern_fill(bench->q + b * c->q_heads * c->capacity * c->head_dim, input, true, b, c->q_heads, c->capacity,
                     c->head_dim, c->dtype);
        pattern_fill(bench->k + b * c->kv_heads * c->capacity * c->head_dim, input, false, b, c->kv_heads, c->capacity,
                     c->head_dim, c->dtype);
    }
}

void pattern_bench_make(struct pattern_bench *bench, const int32_t *kept)
{
    const struct pattern_case *c = &bench->c;
    const tamis_tensor q = tensor(bench->q, c->q_heads, c->capacity, c->head_dim);
    const tamis_tensor k = tensor(bench->k, c->kv_heads, c->capacity, c->head_dim);
    int32_t all[8];
    for (int b = 0; b < c->batch; b++) all[b] = (int32_t)c->capacity;
    bench->c.kept = kept;
    OK(tamis_make_blocks(bench->plan, &q, &k, kept ? kept : all, NULL, bench->count, bench->list, bench->workspace,
                         bench->workspace_bytes, NULL));
}

void pattern_bench_close(struct pattern_bench *bench)
{
    guarded_free(bench->workspace);
    guarded_free(bench->q);
    guarded_free(bench->k);
    guarded_free(bench->count);
    guarded_free(bench->list);
    tamis_plan_free(bench->plan);
    tamis_context_free(bench->context);
}

void pattern_bench_check(struct pattern_bench *bench, double slack, long long most_either, const char *what)
{
    long long either = 0;
    unsigned char *decisions = pattern_brute(&bench->c, slack);
    const char *error = pattern_compare(&bench->c, decisions, bench->count, bench->list, pattern_tiles(&bench->c), &either);
    if (error) ck_abort_msg("%s: %s", what, error);
    if (either > most_either) ck_abort_msg("%s: %lld blocks may be either, too many to tell much", what, either);
    free(decisions);
}

tamis_pattern pattern_of(tamis_pattern_kind kind)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = kind;
    return pattern;
}

void pattern_bench_expect(const struct pattern_bench *bench, int i, int count, const int *blocks)
{
    const int32_t *list = bench->list + (long long)i * pattern_tiles(&bench->c);
    ck_assert_msg(bench->count[i] == count, "query block %d: %d blocks, not %d", i, bench->count[i], count);
    for (int at = 0; at < count; at++)
        ck_assert_msg(list[at] == blocks[at], "query block %d: entry %d is %d, not %d", i, at, list[at], blocks[at]);
}
