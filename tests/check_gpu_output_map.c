/*
 * check_gpu_output_map.c: plans with an output map on the fake GPU: which kernels they load and launch in place of attention's,
 * with what arguments and map; by whose timings a variant is chosen; and what a store without such kernels is told. Part of the
 * gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <stdint.h>

#define LAUNCHES_MAX 16
#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_KEPT, AT_MAP, AT_WORKSPACE };
enum { LENGTH = 20000, HEADS = 32, BATCH = 2, DIM = 128 };
enum { ROWS_A_BLOCK = 144, KEYS_A_STEP = 48, ROWS_A_TILE = 176, KEYS_A_TILE = 96 };

static struct {
    int count;
    char stages[LAUNCHES_MAX][32];
    union {
        struct tamis_attend_map_args attend;
        struct tamis_attend_map_tma_args attend_tma;
    } args; /* of the last attention */
    unsigned grid[3];
} seen;

static bool tma; /* the store's kernels are the _tma ones */

static void note_launch(void *payload, const struct fake_cuda_launch *launch)
{
    const char *stage = strchr(launch->symbol + strlen("k_"), '_') + 1; /* behind "k_<variant>_" */
    if (strncmp(stage, "map_", 4) == 0) stage += 4; /* the variant's name has a '_' itself */
    (void)payload;
    child_expect(seen.count < LAUNCHES_MAX, "more than %d launches", LAUNCHES_MAX);
    snprintf(seen.stages[seen.count++], sizeof seen.stages[0], "%s", stage);
    if (strcmp(stage, "attend_map") == 0) memcpy(&seen.args, launch->params[0], sizeof seen.args.attend);
    if (strcmp(stage, "attend_map_tma") == 0) memcpy(&seen.args, launch->params[0], sizeof seen.args.attend_tma);
    memcpy(seen.grid, launch->grid, sizeof seen.grid);
}

static int count_launches(const char *stage)
{
    int count = 0;
    for (int i = 0; i < seen.count; i++) count += strcmp(seen.stages[i], stage) == 0;
    return count;
}

static tamis_plan_options with_map(void)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.output_map = 1;
    return options;
}

static tamis_problem map_problem(tamis_policy policy)
{
    tamis_problem problem = bench_problem(LENGTH);
    problem.batch = BATCH;
    problem.selection.policy = policy;
    problem.selection.ratio = 0.5;
    return problem;
}

static tamis_tensor tensor_at(int number, int heads, long long rows)
{
    return (tamis_tensor){AT(number), heads * rows * DIM, rows * DIM, DIM};
}

/* ---- launches */

static void expect_matrices(const struct tamis_tensor_map *map)
{
    const unsigned long long sizes[] = {DIM, DIM, HEADS, BATCH}, strides[] = {2 * DIM, 2 * DIM * DIM, 0};
    struct fake_cuda_map made;
    memcpy(&made, map, sizeof made);
    child_expect(made.mark == FAKE_CUDA_MAP && made.address == AT(AT_MAP), "no map of the matrices");
    child_expect(memcmp(made.sizes, sizes, sizeof sizes) == 0 && memcmp(made.strides, strides, sizeof strides) == 0,
                 "another shape");
    child_expect(made.box[0] == 64 && made.box[1] == KEYS_A_TILE && made.box[2] == 1 && made.box[3] == 1,
                 "boxes of %d rows", made.box[1]);
}

static void expect_attention(const struct gpu_bench *bench, bool in_place, const char *what)
{
    const struct tamis_attend_args *attend = tma ? &seen.args.attend_tma.run.attend : &seen.args.attend.attend;
    const long long capacity = tamis_plan_capacity(bench->plan);
    child_expect(count_launches(tma ? "attend_map_tma" : "attend_map") == 1, "%s: no attention with a map", what);
    child_expect(count_launches("attend") + count_launches("attend_tma") == 0, "%s: attention without a map", what);
    child_expect(attend->capacity == capacity && attend->q_heads == HEADS, "%s: another problem", what);
    child_expect((attend->indices != NULL) == in_place, "%s: rows go elsewhere", what);
    if (!tma) {
        child_expect(seen.args.attend.output_map == AT(AT_MAP), "%s: another map", what);
        return;
    }
    child_expect(seen.args.attend_tma.run.tiles == (int)((capacity + ROWS_A_TILE - 1) / ROWS_A_TILE), "%s: %d tiles", what,
                 seen.args.attend_tma.run.tiles);
    expect_matrices(&seen.args.attend_tma.output_map);
}

static void expect_run(const void *argument)
{
    const tamis_policy policy = *(const tamis_policy *)argument;
    const tamis_problem problem = map_problem(policy);
    const tamis_plan_options options = with_map();
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    struct gpu_bench bench;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options), "plan");
    bench.watch(note_launch, NULL);
    bench.assume(AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench.plan));
    args.q = tensor_at(AT_Q, HEADS, LENGTH);
    args.k = tensor_at(AT_K, problem.kv_heads, LENGTH);
    args.v = tensor_at(AT_V, problem.kv_heads, LENGTH);
    args.output = tensor_at(AT_OUTPUT, HEADS, LENGTH);
    args.output_map = AT(AT_MAP);
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), bytes, NULL), "run");
    expect_attention(&bench, policy != TAMIS_DENSE, "run");
    child_expect(count_launches("decompress") == (policy != TAMIS_DENSE && !tma), "dropped rows are written twice, or never");
    seen.count = 0;

    const long long capacity = tamis_plan_capacity(bench.plan);
    const tamis_tensor q = tensor_at(AT_Q, HEADS, capacity), output = tensor_at(AT_OUTPUT, HEADS, capacity);
    const tamis_tensor k = tensor_at(AT_K, tamis_plan_compact_heads(bench.plan), capacity);
    const tamis_tensor v = tensor_at(AT_V, tamis_plan_compact_heads(bench.plan), capacity);
    bench_must(tamis_attend_map(bench.plan, &q, &k, &v, AT(AT_KEPT), AT(AT_MAP), &output, NULL, AT(AT_WORKSPACE), bytes, NULL),
               "step");
    child_expect(seen.count == 1, "%d launches of a step", seen.count);
    expect_attention(&bench, false, "step");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_launches)
{
    static const tamis_policy policies[] = {TAMIS_DENSE, TAMIS_RATIO, TAMIS_COVERAGE};
    tma = _i / 3 == 1;
    gpu_plan_make_store(&(struct store_plan){.maps = true, .tma = tma});
    child_run(expect_run, &policies[_i % 3]);
}
END_TEST

/* ---- which are loaded */

static void expect_text(const struct gpu_bench *bench, const char *wanted, bool there)
{
    char text[4096];
    bench_must(tamis_plan_describe(bench->plan, text, sizeof text, NULL), "describe");
    child_expect((strstr(text, wanted) != NULL) == there, "\"%s\" is %sin: %s", wanted, there ? "not " : "", text);
}

static void plan_again(struct gpu_bench *bench, const tamis_plan_options *options)
{
    const tamis_problem problem = map_problem(TAMIS_RATIO);
    tamis_plan_free(bench->plan);
    bench_must(tamis_plan_create_with(&bench->plan, bench->context, bench->store, &problem, options), "plan");
}

/* A time for the variant of attend that has these parameters. */
static void put_time(const struct gpu_bench *bench, const char *params, double us)
{
    const tamis_problem problem = map_problem(TAMIS_RATIO);
    const struct tamisi_variant_query query = {.family = "attend", .arch = "sm_90a", .dtype = -1, .head_dim = -1};
    struct tamisi_timing row = {.gpu = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13},
                                .state = TAMISI_TIMED, .rigor = TAMISI_NORMAL, .rounds = 9, .median_us = us, .when = 1};
    struct tamisi_variant *variants;
    struct tamisi_facts facts;
    size_t count = 0;
    tamisi_facts_make(&facts, &problem);
    tamisi_bucket_make(&row.bucket, "attend", &problem, facts.capacity, facts.dense);
    bench_must(tamisi_store_find_variants(&variants, &count, bench->store, &query), "variants");
    for (size_t i = 0; i < count; i++) {
        if (strcmp(variants[i].params, params) != 0) continue;
        row.source = variants[i].source;
        snprintf(row.variant, sizeof row.variant, "%s", variants[i].name);
    }
    free(variants);
    snprintf(row.family, sizeof row.family, "attend");
    snprintf(row.arch, sizeof row.arch, "sm_90a");
    child_expect(row.variant[0], "no variant has %s", params);
    bench_must(tamisi_store_put_timing(bench->store, &row), "timing");
}

static void expect_choice(const void *argument)
{
    tamis_plan_options options = with_map();
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    plan_again(&bench, NULL);
    expect_text(&bench, "attend_map", false);
    plan_again(&bench, &options);
    expect_text(&bench, "\nvariant of attend_map: attend_map: default\n", true);
    expect_text(&bench, "\nvariant of attend: ", false);
    put_time(&bench, "block_m=16 warps=4", 100);
    put_time(&bench, "block_m=16 warps=8", 80);
    plan_again(&bench, &options);
    expect_text(&bench, "\nvariant of attend_map: attend_map_second: timed for this shape; 1.250 times as fast", true);
    options.tuning = TAMIS_TUNING_OFF;
    plan_again(&bench, &options);
    expect_text(&bench, "\nvariant of attend_map: attend_map: default\n", true);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_choice)
{
    gpu_plan_make_store(&(struct store_plan){.maps = true, .both_attends = true});
    child_run(expect_choice, NULL);
}
END_TEST

static void expect_refused(const void *argument)
{
    const tamis_problem problem = map_problem(TAMIS_RATIO);
    const tamis_plan_options options = with_map();
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    const tamis_status status = tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options);
    child_expect(status == TAMIS_EUNSUPPORTED && !bench.plan, "%s", tamis_status_name(status));
    child_expect(strstr(tamis_last_error(), "a.tamis: no attention kernel with an output map for head_dim 128, bf16, sm_90a: "
                                            "run tamis gen on a spec with output_map: true") != NULL, "%s", tamis_last_error());
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_no_kernel)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_refused, NULL);
}
END_TEST

TCase *gpu_output_map_case(void)
{
    TCase *tcase = tcase_create("output_map");
    tcase_add_checked_fixture(tcase, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(tcase, test_launches, 0, 6);
    tcase_add_test(tcase, test_choice);
    tcase_add_test(tcase, test_no_kernel);
    return tcase;
}
