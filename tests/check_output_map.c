/*
 * check_output_map.c: plans with an output map through the public API on the CPU backend: rows against those of the same plan
 * without one, multiplied here; the same bits in steps; and what plans, runs and steps refuse, in words. Values of many shapes
 * are compared with double precision by tests/gpu/gpu_check_maps.c, launches are in check_gpu_output_map.c.
 */
#include "cpu_case.h"

#include "half.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

Suite *output_map_suite(void);

enum { BATCH = 2, Q_HEADS = 4, KV_HEADS = 2, DIM = 96, LENGTH = 170, HEADS = BATCH * Q_HEADS };

/* A problem with a plan and a run of each kind. */
struct world {
    struct cpu_case c; /* without a map; has run */
    tamis_plan *plan;
    tamis_run_args args;
    uint16_t *map, *output; /* (Hq, D, D), and what the plan with a map writes */
    float *lse;
    void *workspace;
    size_t workspace_bytes;
};

static tamis_tensor plain(void *data, int heads, long long rows)
{
    return (tamis_tensor){data, heads * rows * DIM, rows * DIM, DIM};
}

static tamis_status make_plan(tamis_plan **out, const struct world *w, int output_map)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.output_map = output_map;
    return tamis_plan_create_with(out, w->c.context, NULL, &w->c.problem, &options);
}

static void fill_map(struct world *w)
{
    unsigned long long state = 5;
    for (int i = 0; i < Q_HEADS * DIM * DIM; i++) {
        const double uniform = (double)(cpu_random(&state) >> 11) * 0x1p-53 - 0.5;
        w->map[i] = tamisi_half_from_float((float)(uniform / sqrt(DIM)), w->c.problem.dtype);
    }
}

static void world_open(struct world *w, tamis_policy policy, tamis_precision precision)
{
    memset(w, 0, sizeof *w);
    w->c = (struct cpu_case)CPU_CASE_INIT;
    w->c.precision = precision;
    tamis_problem *p = &w->c.problem;
    p->batch = BATCH, p->q_heads = Q_HEADS, p->kv_heads = KV_HEADS, p->head_dim = DIM, p->seq_len = LENGTH;
    p->selection.policy = policy;
    p->selection.ratio = 0.4;
    p->selection.window = 33;
    p->selection.min_tokens = 0;
    cpu_case_open(&w->c);
    cpu_case_run(&w->c);
    ck_assert_msg(make_plan(&w->plan, w, 1) == TAMIS_OK, "%s", tamis_last_error());
    const size_t rows = cpu_case_elements(&w->c, Q_HEADS) / DIM;
    w->workspace_bytes = tamis_plan_workspace_bytes(w->plan);
    w->workspace = aligned_alloc(256, (w->workspace_bytes + 255) / 256 * 256);
    w->map = aligned_alloc(16, (size_t)Q_HEADS * DIM * DIM * 2);
    w->output = guarded_alloc(rows * DIM * 2);
    w->lse = guarded_alloc(rows * sizeof *w->lse);
    ck_assert(w->workspace && w->map);
    fill_map(w);
    w->args = (tamis_run_args)TAMIS_RUN_ARGS_INIT;
    w->args.q = plain(w->c.q, Q_HEADS, LENGTH);
    w->args.k = plain(w->c.k, KV_HEADS, LENGTH);
    w->args.v = plain(w->c.v, KV_HEADS, LENGTH);
    w->args.output = plain(w->output, Q_HEADS, LENGTH);
    w->args.lse = w->lse;
    w->args.output_map = w->map;
}

static void world_close(struct world *w)
{
    tamis_plan_free(w->plan);
    guarded_free(w->output);
    guarded_free(w->lse);
    free(w->map);
    free(w->workspace);
    cpu_case_close(&w->c);
}

static tamis_status run(struct world *w)
{
    return tamis_run(w->plan, &w->args, w->workspace, w->workspace_bytes, NULL);
}

/* ---- values */

/* Element j of a row that went through its head's matrix. */
static double mapped(const struct world *w, const uint16_t *row, int head, int j)
{
    const tamis_dtype dtype = w->c.problem.dtype;
    double sum = 0;
    for (int i = 0; i < DIM; i++)
        sum += (double)tamisi_half_to_float(row[i], dtype) *
               (double)tamisi_half_to_float(w->map[(head * DIM + i) * DIM + j], dtype);
    return sum;
}

static const struct {
    tamis_policy policy;
    tamis_precision precision;
} kinds[] = {{TAMIS_RATIO, TAMIS_FP32}, {TAMIS_RATIO, TAMIS_FP64}, {TAMIS_DENSE, TAMIS_FP32}, {TAMIS_DENSE, TAMIS_FP64}};

/* What is written is the product of what was written without a map, rounded once more; all else is the same. */
START_TEST(rows_are_mapped)
{
    struct world w;
    world_open(&w, kinds[_i].policy, kinds[_i].precision);
    ck_assert_msg(run(&w) == TAMIS_OK, "%s", tamis_last_error());
    long long dropped = 0;
    for (long long row = 0; row < (long long)HEADS * LENGTH; row++) {
        const bool is_kept = w.c.lse[row] > -INFINITY;
        dropped += !is_kept;
        ck_assert_mem_eq(&w.lse[row], &w.c.lse[row], sizeof *w.lse);
        for (int j = 0; j < DIM; j++) {
            const uint16_t bits = w.output[row * DIM + j];
            const double want = mapped(&w, w.c.output + row * DIM, (int)(row / LENGTH % Q_HEADS), j);
            if (!is_kept) ck_assert_uint_eq(bits, 0);
            ck_assert_double_eq_tol((double)tamisi_half_to_float(bits, w.c.problem.dtype), want, fabs(want) / 250 + 1e-6);
        }
    }
    ck_assert_int_eq(dropped > 0, kinds[_i].policy != TAMIS_DENSE);
    guarded_check(w.output);
    guarded_check(w.lse);
    world_close(&w);
}
END_TEST

START_TEST(steps_give_the_same)
{
    struct world w;
    world_open(&w, kinds[_i].policy, kinds[_i].precision);
    const long long capacity = tamis_plan_capacity(w.plan);
    const int heads = tamis_plan_compact_heads(w.plan);
    uint16_t *compact[4], *first = malloc((size_t)HEADS * LENGTH * DIM * 2);
    float *lse = malloc((size_t)HEADS * (size_t)capacity * sizeof *lse);
    for (int i = 0; i < 4; i++) ck_assert_ptr_nonnull(compact[i] = aligned_alloc(16, (size_t)(HEADS * capacity * DIM) * 2));
    const tamis_tensor q = plain(compact[0], Q_HEADS, capacity), k = plain(compact[1], heads, capacity);
    const tamis_tensor v = plain(compact[2], heads, capacity), out = plain(compact[3], Q_HEADS, capacity);
    const tamis_run_args *a = &w.args;
    ck_assert(first && lse);
    ck_assert_int_eq(run(&w), TAMIS_OK);
    memcpy(first, w.output, (size_t)HEADS * LENGTH * DIM * 2);
    memset(w.output, 0xff, (size_t)HEADS * LENGTH * DIM * 2);
    ck_assert_int_eq(tamis_compress(w.plan, &a->q, &a->k, &a->v, w.c.kept, w.c.indices, &q, &k, &v, w.workspace,
                                    w.workspace_bytes, NULL), TAMIS_OK);
    ck_assert_int_eq(tamis_attend_map(w.plan, &q, &k, &v, w.c.kept, w.map, &out, lse, w.workspace, w.workspace_bytes, NULL),
                     TAMIS_OK);
    ck_assert_int_eq(tamis_decompress(w.plan, &out, lse, w.c.kept, w.c.indices, &a->output, w.lse, w.workspace,
                                      w.workspace_bytes, NULL), TAMIS_OK);
    ck_assert_mem_eq(w.output, first, (size_t)HEADS * LENGTH * DIM * 2);
    ck_assert_mem_eq(w.lse, w.c.lse, (size_t)HEADS * LENGTH * sizeof *w.lse);
    for (int i = 0; i < 4; i++) free(compact[i]);
    free(first);
    free(lse);
    world_close(&w);
}
END_TEST

/* ---- what is refused */

static void expect_words(tamis_status got, tamis_status wanted, const char *words)
{
    ck_assert_int_eq(got, wanted);
    ck_assert_str_eq(tamis_last_error(), words);
}

START_TEST(plans_refused)
{
    struct world w;
    tamis_plan *plan;
    char text[1024];
    world_open(&w, TAMIS_RATIO, TAMIS_FP32);
    expect_words(make_plan(&plan, &w, 2), TAMIS_EINVAL, "options: output_map is 2: it must be 0 or 1");
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.output_map = 1;
    options.pattern = &pattern; /* of kind none */
    ck_assert_int_eq(tamis_plan_create_with(&plan, w.c.context, NULL, &w.c.problem, &options), TAMIS_OK);
    ck_assert_int_eq(tamis_plan_describe(plan, text, sizeof text, NULL), TAMIS_OK);
    ck_assert_ptr_nonnull(strstr(text, "\noutput map: a matrix of each head on its kept rows\n"));
    tamis_plan_free(plan);
    pattern.kind = TAMIS_PATTERN_SLIDING;
    expect_words(tamis_plan_create_with(&plan, w.c.context, NULL, &w.c.problem, &options), TAMIS_EUNSUPPORTED,
                 "options: output_map is 1 and pattern.kind is sliding: attention on blocks applies no map");

    /* A host of the version before, whose options end where the member begins: it is not looked at, the pattern is. */
    options.struct_size = offsetof(tamis_plan_options, output_map);
    options.output_map = 77;
    ck_assert_int_eq(tamis_plan_create_with(&plan, w.c.context, NULL, &w.c.problem, &options), TAMIS_OK);
    ck_assert_int_gt(tamis_plan_block_count(plan), 0);
    tamis_plan_free(plan);
    world_close(&w);
}
END_TEST

/* The run fails in these words, and has written nothing. */
static void expect_no_run(struct world *w, const char *words)
{
    uint16_t poison[DIM];
    memset(poison, 0xff, sizeof poison);
    expect_words(run(w), TAMIS_EINVAL, words);
    for (int row = 0; row < HEADS * LENGTH; row++) ck_assert_mem_eq(w->output + row * DIM, poison, sizeof poison);
}

START_TEST(runs_refused)
{
    struct world w;
    world_open(&w, TAMIS_RATIO, TAMIS_FP32);
    w.args.output_map = NULL;
    expect_no_run(&w, "args.output_map: is NULL");
    w.args.output_map = w.map + 1;
    expect_no_run(&w, "args.output_map: is not aligned to 16 bytes");
    w.args.output_map = w.output + (long long)HEADS * LENGTH * DIM - 8; /* the last bytes that are written */
    expect_no_run(&w, "args.output: overlaps args.output_map");
    w.args.output_map = w.map;
    w.args.struct_size = offsetof(tamis_run_args, output_map); /* a host of the version before: it can name none */
    expect_no_run(&w, "args.output_map: is NULL");
    w.args.struct_size = sizeof w.args;
    tamis_plan_free(w.plan);
    ck_assert_int_eq(make_plan(&w.plan, &w, 0), TAMIS_OK);
    expect_no_run(&w, "args.output_map: is not NULL, and the plan was made without output_map");
    w.args.struct_size = offsetof(tamis_run_args, output_map);
    ck_assert_int_eq(run(&w), TAMIS_OK);
    ck_assert_mem_eq(w.output, w.c.output, (size_t)HEADS * LENGTH * DIM * 2);
    world_close(&w);
}
END_TEST

START_TEST(steps_refused)
{
    struct world w;
    world_open(&w, TAMIS_DENSE, TAMIS_FP32);
    const tamis_run_args *a = &w.args;
    const int32_t kept[BATCH] = {LENGTH, LENGTH};
    const size_t bytes = w.workspace_bytes;
    expect_words(tamis_attend(w.plan, &a->q, &a->k, &a->v, kept, &a->output, NULL, w.workspace, bytes, NULL), TAMIS_EINVAL,
                 "plan: has an output map: its step is tamis_attend_map");
    expect_words(tamis_attend_map(w.c.plan, &a->q, &a->k, &a->v, kept, w.map, &a->output, NULL, w.workspace, bytes, NULL),
                 TAMIS_EINVAL, "plan: has no output map: its step is tamis_attend");
    expect_words(tamis_attend_map(w.plan, &a->q, &a->k, &a->v, kept, NULL, &a->output, NULL, w.workspace, bytes, NULL),
                 TAMIS_EINVAL, "output_map: is NULL");
    expect_words(tamis_attend_map(NULL, &a->q, &a->k, &a->v, kept, w.map, &a->output, NULL, w.workspace, bytes, NULL),
                 TAMIS_EINVAL, "plan: is NULL");
    world_close(&w);
}
END_TEST

Suite *output_map_suite(void)
{
    Suite *suite = suite_create("output_map");
    TCase *tcase = tcase_create("output_map");
    const int count = sizeof kinds / sizeof *kinds;
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, rows_are_mapped, 0, count);
    tcase_add_loop_test(tcase, steps_give_the_same, 0, count);
    tcase_add_test(tcase, plans_refused);
    tcase_add_test(tcase, runs_refused);
    tcase_add_test(tcase, steps_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
