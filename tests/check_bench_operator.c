/*
 * check_bench_operator.c: what `tamis bench operator` is made of: figures of dense, ratio and coverage problems on the CPU,
 * the check of lists and dropped rows, and rounds of several parts. One test case of check_bench.c's suite.
 */
#include "bench_operator.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TCase *bench_operator_tests(void);

enum { BATCH = 2, ROWS = 200, DIM = 64, WINDOW = 16, CANDIDATES = ROWS - WINDOW };

static struct bench_case make_case(tamis_policy policy, tamis_scope scope)
{
    struct bench_case made = {.problem = TAMIS_PROBLEM_INIT};
    made.problem.batch = BATCH;
    made.problem.q_heads = 4;
    made.problem.kv_heads = 2;
    made.problem.head_dim = DIM;
    made.problem.seq_len = ROWS;
    made.problem.selection = (tamis_selection){policy, scope, WINDOW, 7, 8, 0.3, 0.5, 31};
    return made;
}

static void open_bench(struct bench *bench)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_OK);
    ck_assert_int_eq(bench_begin(bench, context, 3, 1), TAMIS_OK);
}

static void shut_bench(struct bench *bench)
{
    tamis_context *context = bench->context;
    bench_end(bench);
    tamis_context_free(context);
}

/* ---- figures */

static const struct {
    tamis_policy policy;
    tamis_scope scope;
    long long least, most; /* that may be kept */
} figures[] = {{TAMIS_DENSE, TAMIS_SCOPE_HEAD, ROWS, ROWS},
               {TAMIS_RATIO, TAMIS_SCOPE_HEAD, CANDIDATES / 2 + WINDOW, CANDIDATES / 2 + WINDOW},
               {TAMIS_COUNT, TAMIS_SCOPE_KV_GROUP, 31 + WINDOW, 31 + WINDOW},
               {TAMIS_COVERAGE, TAMIS_SCOPE_LAYER, 8 + WINDOW, ROWS - 1}};

START_TEST(figure_of_the_operator)
{
    const struct bench_case made = make_case(figures[_i].policy, figures[_i].scope);
    struct bench bench;
    struct bench_operator_figure out;
    open_bench(&bench);
    ck_assert_msg(bench_operator_measure(&bench, &out, &made) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_msg(out.run.right, "%s", out.wrong);
    ck_assert_double_gt(out.run.error, 0);
    ck_assert_double_le(out.run.error, out.run.error_limit);
    ck_assert_int_le(figures[_i].least, out.kept_least);
    ck_assert_int_le(out.kept_least, out.run.rows);
    ck_assert_int_le(out.run.rows, figures[_i].most);
    ck_assert_double_gt(out.run.least_ms, 0);
    ck_assert_double_le(out.run.least_ms, out.run.ms);
    ck_assert_double_le(out.run.ms, out.run.most_ms);
    ck_assert_int_eq(out.steps, figures[_i].policy != TAMIS_DENSE);
    for (int i = 0; i < RUNNER_STEPS && out.steps; i++) ck_assert_double_gt(out.step[i].ms, 0);
    if (out.steps) ck_assert_double_gt(out.rest_ms, 0);
    shut_bench(&bench);
}
END_TEST

START_TEST(no_figure)
{
    struct bench_case made = make_case(TAMIS_RATIO, TAMIS_SCOPE_HEAD);
    struct bench bench;
    struct bench_operator_figure out;
    made.problem.selection.pool = 2;
    open_bench(&bench);
    ck_assert_int_eq(bench_operator_measure(&bench, &out, &made), TAMIS_EINVAL);
    ck_assert(!out.run.right);
    shut_bench(&bench);
}
END_TEST

/* ---- rounds of parts */

struct parts {
    struct bench *bench;
    int marks, rounds;
};

static tamis_status mark_parts(void *payload)
{
    struct parts *parts = payload;
    parts->rounds++;
    for (int i = 0; i < parts->marks; i++)
        if (stopwatch_mark(&parts->bench->watch, NULL) != TAMIS_OK) return TAMIS_EINVAL;
    return TAMIS_OK;
}

START_TEST(rounds_of_parts)
{
    struct bench bench;
    struct bench_time times[3];
    open_bench(&bench);
    struct parts parts = {&bench, 4, 0};
    ck_assert_int_eq(bench_time_rounds(&bench, times, 3, NULL, mark_parts, &parts), TAMIS_OK);
    ck_assert_int_eq(parts.rounds, 2 + 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_double_ge(times[i].least_ms, 0);
        ck_assert_double_le(times[i].least_ms, times[i].ms);
        ck_assert_double_le(times[i].ms, times[i].most_ms);
    }
    parts.marks = 3;
    ck_assert_int_eq(bench_time_rounds(&bench, times, 3, NULL, mark_parts, &parts), TAMIS_EINVAL);
    shut_bench(&bench);
}
END_TEST

/* ---- the check of lists */

struct result {
    uint16_t q[BATCH * 4 * ROWS * DIM], k[BATCH * 2 * ROWS * DIM], v[BATCH * 2 * ROWS * DIM], output[BATCH * 4 * ROWS * DIM];
    int32_t kept[BATCH], indices[BATCH * 4 * ROWS];
};

static tamis_tensor tensor_of(uint16_t *data, int heads)
{
    return (tamis_tensor){data, (long long)heads * ROWS * DIM, ROWS * DIM, DIM};
}

static void run_operator(struct bench *bench, struct result *result, const tamis_problem *problem)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    tamis_plan *plan;
    ck_assert_int_eq(tamis_plan_create(&plan, bench->context, NULL, problem), TAMIS_OK);
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    void *workspace = aligned_alloc(256, bytes);
    ck_assert_int_eq(bench_fill(bench, result->q, problem, BATCH * 4, ROWS, 0), TAMIS_OK);
    ck_assert_int_eq(bench_fill(bench, result->k, problem, BATCH * 2, ROWS, 40), TAMIS_OK);
    ck_assert_int_eq(bench_fill(bench, result->v, problem, BATCH * 2, ROWS, 24), TAMIS_OK);
    args.q = tensor_of(result->q, 4);
    args.k = tensor_of(result->k, 2);
    args.v = tensor_of(result->v, 2);
    args.output = tensor_of(result->output, 4);
    args.kept = result->kept;
    args.indices = result->indices;
    ck_assert_msg(tamis_run(plan, &args, workspace, bytes, NULL) == TAMIS_OK, "%s", tamis_last_error());
    free(workspace);
    tamis_plan_free(plan);
}

static int first_dropped(const int32_t *list)
{
    int row = 0;
    while (list[row] == row) row++;
    return row;
}

/* Of the second sequence: a list out of order, one without the window's end, a dropped row that is not zero, a NaN in one,
   a wrong number in a kept row; last, nothing wrong. */
START_TEST(wrong_lists)
{
    static struct result result;
    const struct bench_case made = make_case(TAMIS_RATIO, TAMIS_SCOPE_HEAD);
    struct bench bench;
    open_bench(&bench);
    run_operator(&bench, &result, &made.problem);
    const int capacity = CANDIDATES / 2 + WINDOW;
    int32_t *list = result.indices + 4 * capacity;
    const int row = first_dropped(list);
    uint16_t *output = result.output + 4 * ROWS * DIM;
    struct bench_figure figure = {.right = false};
    struct bench_arrays arrays = {result.q, result.k, result.v, result.output, 2, ROWS, 1, list, 4, capacity, result.kept[1],
                                  NULL, NULL};
    ck_assert_int_eq(bench_check(&bench, &figure, &made.problem, &arrays), TAMIS_OK);
    ck_assert(figure.right);

    if (_i == 0) list[3] = list[4];
    if (_i == 1) arrays.kept--;
    if (_i == 2) output[row * DIM + 5] = 1; /* the least number above zero */
    if (_i == 3) output[row * DIM + 5] = 0x7fc0;
    if (_i == 4) output[(ROWS - 1) * DIM] ^= 0x4000; /* the last row is always looked at */
    ck_assert_int_eq(bench_check(&bench, &figure, &made.problem, &arrays), TAMIS_OK);
    ck_assert_int_eq(figure.right, _i == 5);
    ck_assert_int_eq(isinf(figure.error) != 0, _i < 3);
    ck_assert_int_eq(isnan(figure.error) != 0, _i == 3);
    shut_bench(&bench);
}
END_TEST

TCase *bench_operator_tests(void)
{
    TCase *tests = tcase_create("operator");
    tcase_add_loop_test(tests, figure_of_the_operator, 0, (int)(sizeof figures / sizeof *figures));
    tcase_add_test(tests, no_figure);
    tcase_add_test(tests, rounds_of_parts);
    tcase_add_loop_test(tests, wrong_lists, 0, 6);
    return tests;
}
