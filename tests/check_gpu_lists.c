/*
 * check_gpu_lists.c: what plans with a block pattern on a fake GPU do with timings of its families: whose bucket is taken, near
 * and far, on all tokens and on those that were chosen; what is asked for where timings are required. Part of the gpu_plan
 * suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

static tamis_problem make_problem(long long seq_len, double ratio)
{
    tamis_problem problem = bench_problem(seq_len);
    problem.selection.policy = ratio < 1 ? TAMIS_RATIO : TAMIS_DENSE;
    problem.selection.ratio = ratio;
    return problem;
}

static tamis_pattern make_pattern(tamis_pattern_kind kind)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = kind;
    return pattern;
}

/* A time of a variant, as a tuner on the fake GPU writes it: of all of `rows`, on lists of that density or for that pattern. */
static void put_time(tamis_store *store, const char *family, const char *name, long long rows, double density,
                     const tamis_pattern *pattern, double us)
{
    const tamis_problem problem = make_problem(rows, 1);
    const struct tamisi_variant_query query = {.family = family, .arch = "sm_90a", .dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants;
    size_t count = 0;
    struct tamisi_timing row = {.gpu = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13},
                                .state = TAMISI_TIMED, .rigor = TAMISI_NORMAL, .rounds = 9, .median_us = us, .when = 1};
    tamisi_bucket_make_lists(&row.bucket, family, &problem, rows, true, pattern, density);
    snprintf(row.family, sizeof row.family, "%s", family);
    snprintf(row.arch, sizeof row.arch, "sm_90a");
    snprintf(row.variant, sizeof row.variant, "%s", name);
    bench_must(tamisi_store_find_variants(&variants, &count, store, &query), "variants");
    for (size_t i = 0; i < count; i++)
        if (strcmp(variants[i].name, name) == 0) row.source = variants[i].source;
    free(variants);
    bench_must(tamisi_store_put_timing(store, &row), "timing");
}

/* Both variants of attention on blocks, the second one in `second` us, the default in 100. */
static void put_both(tamis_store *store, long long rows, double density, double second)
{
    const tamis_pattern none = TAMIS_PATTERN_INIT;
    put_time(store, "attend_blocks", "attend_blocks", rows, density, &none, 100);
    put_time(store, "attend_blocks", "attend_blocks_second", rows, density, &none, second);
}

static void make_plan(struct gpu_bench *bench, long long seq_len, double ratio, const tamis_pattern *pattern,
                      tamis_tuning tuning)
{
    const tamis_problem problem = make_problem(seq_len, ratio);
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.pattern = pattern;
    options.tuning = tuning;
    tamis_plan_free(bench->plan);
    bench_must(tamis_plan_create_with(&bench->plan, bench->context, bench->store, &problem, &options), "plan");
}

static void expect_variant(struct gpu_bench *bench, const char *family, const char *name, const char *reason)
{
    char text[8192], wanted[200];
    bench_must(tamis_plan_describe(bench->plan, text, sizeof text, NULL), "describe");
    snprintf(wanted, sizeof wanted, "\nvariant of %s: %s: %s", family, name, reason);
    child_expect(strstr(text, wanted) != NULL, "\"%s\" is not in: %s", wanted, text);
}

static void expect_attend(struct gpu_bench *bench, const char *name, const char *reason)
{
    expect_variant(bench, "attend_blocks", name, reason);
}

static void open_bench(struct gpu_bench *bench)
{
    bench_environment(NULL);
    bench_open(bench);
}

static void expect_attention(const void *argument)
{
    tamis_pattern flexprefill = make_pattern(TAMIS_PATTERN_FLEXPREFILL), topk = make_pattern(TAMIS_PATTERN_TOPK_BLOCKS);
    const tamis_pattern host = make_pattern(TAMIS_PATTERN_HOST_BLOCKS);
    struct gpu_bench bench;
    (void)argument;
    open_bench(&bench);
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks", "default\n");
    expect_variant(&bench, "blocks", "blocks", "default\n");
    put_both(bench.store, 32768, 0.1, 80);
    put_both(bench.store, 32768, 0.5, 90);
    put_both(bench.store, 8192, 0.1, 110);
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_USE); /* how much it lists, only the data knows: a tenth */
    expect_attend(&bench, "attend_blocks_second", "timed for this shape; 1.250 times as fast as the default\n");
    make_plan(&bench, 32768, 1, &host, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks_second", "timed for this shape; 1.250 times");
    topk.topk_blocks.ratio = 0.6; /* this one says it */
    make_plan(&bench, 32768, 1, &topk, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks_second", "timed for the nearest shape (seq_len 32768, density 0.5); 1.111 times");
    make_plan(&bench, 8192, 1, &flexprefill, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks", "timed for this shape\n");
    /* Half of twice as many tokens: the rows count, and that they are gathered makes it another bucket. */
    make_plan(&bench, 65408, 0.5, &flexprefill, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks_second", "timed for the nearest shape (seq_len 32768, density 0.1); 1.250 times");
    make_plan(&bench, 16128, 0.5, &flexprefill, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks", "timed for the nearest shape (seq_len 8192, density 0.1)");
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_OFF);
    expect_attend(&bench, "attend_blocks", "default\n");
    bench.inject("cuLibraryLoadData", 7, 200); /* five families of every plan, blocks, and then the one that was timed */
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_USE);
    expect_attend(&bench, "attend_blocks", "fallback");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(attention)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true, .second_lists = true, .tma = _i});
    child_run(expect_attention, NULL);
}
END_TEST

static void expect_makers(const void *argument)
{
    tamis_pattern flexprefill = make_pattern(TAMIS_PATTERN_FLEXPREFILL), lines = make_pattern(TAMIS_PATTERN_VERTICAL_SLASH);
    struct gpu_bench bench;
    (void)argument;
    open_bench(&bench);
    put_time(bench.store, "pattern_lines", "pattern_lines", 32768, 0, &flexprefill, 100);
    put_time(bench.store, "pattern_lines", "pattern_lines_second", 32768, 0, &flexprefill, 50);
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_USE);
    expect_variant(&bench, "pattern_lines", "pattern_lines_second", "timed for this shape; 2.000 times as fast");
    flexprefill.flexprefill.gamma = 0.8; /* says only how much of it is listed */
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_USE);
    expect_variant(&bench, "pattern_lines", "pattern_lines_second", "timed for this shape");
    make_plan(&bench, 131072, 0.5, &flexprefill, TAMIS_TUNING_USE);
    expect_variant(&bench, "pattern_lines", "pattern_lines_second", "timed for the nearest shape (seq_len 32768); 2.000 times");
    make_plan(&bench, 32768, 1, &lines, TAMIS_TUNING_USE); /* another maker's work */
    expect_variant(&bench, "pattern_lines", "pattern_lines", "default\n");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(makers)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true, .second_lists = true});
    child_run(expect_makers, NULL);
}
END_TEST

/* Without a timing of every kernel that it launches there is no such plan: of attention on all blocks there is no need. */
static void expect_required(const void *argument)
{
    static const char *const families[] = {"attend_blocks", "pattern", "pattern_lines", "pattern_heads"};
    const tamis_pattern flexprefill = make_pattern(TAMIS_PATTERN_FLEXPREFILL);
    const tamis_problem problem = make_problem(32768, 1), chosen = make_problem(32768, 0.5);
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    struct gpu_bench bench;
    tamis_plan *plan = NULL;
    (void)argument;
    open_bench(&bench);
    options.pattern = &flexprefill;
    options.tuning = TAMIS_TUNING_REQUIRE;
    for (int i = 0; i < 4; i++) {
        char text[96];
        snprintf(text, sizeof text, "no %s kernel was timed on this GPU for a seq_len near 32768", families[i]);
        const tamis_status status = tamis_plan_create_with(&plan, bench.context, bench.store, &problem, &options);
        child_expect(status == TAMIS_ENOTFOUND && strstr(tamis_last_error(), text), "%s: %s", tamis_status_name(status),
                     tamis_last_error());
        put_time(bench.store, families[i], families[i], 32768, 0.1, &flexprefill, 100);
    }
    make_plan(&bench, 32768, 1, &flexprefill, TAMIS_TUNING_REQUIRE);
    make_plan(&bench, 20000, 1, &flexprefill, TAMIS_TUNING_REQUIRE);
    const tamis_status status = tamis_plan_create_with(&plan, bench.context, bench.store, &chosen, &options);
    child_expect(status == TAMIS_ENOTFOUND && strstr(tamis_last_error(), "no score kernel"), "%s", tamis_last_error());
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(required)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true});
    child_run(expect_required, NULL);
}
END_TEST

TCase *gpu_lists_case(void)
{
    TCase *lists = tcase_create("lists");
    tcase_add_checked_fixture(lists, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(lists, attention, 0, 2);
    tcase_add_test(lists, makers);
    tcase_add_test(lists, required);
    return lists;
}
