/*
 * check_gpu_choice.c: what plans on a fake GPU do with timings: the tuned variant, the reason that they give, hosts' modes,
 * variants that do not load, and what is counted.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#define SECOND "attend_second"

static tamis_problem ratio_problem(long long seq_len)
{
    tamis_problem problem = bench_problem(seq_len);
    problem.selection.policy = TAMIS_RATIO;
    problem.selection.ratio = 0.5;
    return problem;
}

/* A time for a variant of the store, as on the fake GPU; `sm_count` 0: its own. */
static void put_time(tamis_store *store, const char *family, const char *name, long long seq_len, double us, int sm_count)
{
    const tamis_problem problem = ratio_problem(seq_len);
    const struct tamisi_variant_query query = {.family = family, .arch = "sm_90a", .dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants;
    struct tamisi_facts facts;
    size_t count = 0;
    struct tamisi_timing row = {.gpu = {.cc = 90, .sm_count = sm_count ? sm_count : 132, .l2_bytes = 50 << 20,
                                        .driver_major = 13},
                                .state = TAMISI_TIMED, .rigor = TAMISI_NORMAL, .rounds = 9, .median_us = us, .when = 1};
    tamisi_facts_make(&facts, &problem);
    tamisi_bucket_make(&row.bucket, family, &problem, facts.capacity, facts.dense);
    snprintf(row.family, sizeof row.family, "%s", family);
    snprintf(row.arch, sizeof row.arch, "sm_90a");
    snprintf(row.variant, sizeof row.variant, "%s", name);
    bench_must(tamisi_store_find_variants(&variants, &count, store, &query), "variants");
    for (size_t i = 0; i < count; i++)
        if (strcmp(variants[i].name, name) == 0) row.source = variants[i].source;
    free(variants);
    bench_must(tamisi_store_put_timing(store, &row), "timing");
}

static void expect_attend(struct gpu_bench *bench, const char *name, const char *reason)
{
    char text[4096], wanted[200];
    bench_must(tamis_plan_describe(bench->plan, text, sizeof text, NULL), "describe");
    snprintf(wanted, sizeof wanted, "\nvariant of attend: %s: %s", name, reason);
    child_expect(strstr(text, wanted) != NULL, "\"%s\" is not in: %s", wanted, text);
}

static void make_plan(struct gpu_bench *bench, long long seq_len, const tamis_plan_options *options)
{
    const tamis_problem problem = ratio_problem(seq_len);
    tamis_plan_free(bench->plan);
    bench_must(tamis_plan_create_with(&bench->plan, bench->context, bench->store, &problem, options), "plan");
}

static void expect_tuned(const void *argument)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    make_plan(&bench, 32768, NULL);
    expect_attend(&bench, "attend", "default\n");
    put_time(bench.store, "attend", "attend", 32768, 100, 114);
    put_time(bench.store, "attend", SECOND, 32768, 90, 114);
    make_plan(&bench, 32768, NULL);
    expect_attend(&bench, SECOND, "timed on another GPU (seq_len 32768, kept 16448); 1.111 times as fast");
    put_time(bench.store, "attend", "attend", 65536, 100, 0);
    put_time(bench.store, "attend", SECOND, 65536, 110, 0);
    make_plan(&bench, 32768, NULL);
    expect_attend(&bench, "attend", "timed for the nearest shape (seq_len 65536");
    put_time(bench.store, "attend", "attend", 32768, 100, 0);
    put_time(bench.store, "attend", SECOND, 32768, 80, 0);
    make_plan(&bench, 32768, NULL);
    expect_attend(&bench, SECOND, "timed for this shape; 1.250 times as fast as the default\n");
    options.tuning = TAMIS_TUNING_OFF;
    make_plan(&bench, 32768, &options);
    expect_attend(&bench, "attend", "default\n");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_tuned_plans)
{
    gpu_plan_make_store(&(struct store_plan){.both_attends = true});
    child_run(expect_tuned, NULL);
}
END_TEST

static void expect_refused(struct gpu_bench *bench, const tamis_problem *problem, const tamis_plan_options *options,
                           tamis_status wanted, const char *text)
{
    tamis_plan *plan = NULL;
    const tamis_status status = tamis_plan_create_with(&plan, bench->context, bench->store, problem, options);
    child_expect(status == wanted && !plan && strstr(tamis_last_error(), text), "%s, not %s: \"%s\" lacks \"%s\"",
                 tamis_status_name(status), tamis_status_name(wanted), tamis_last_error(), text);
    tamis_plan_free(plan);
}

static void expect_required(const void *argument)
{
    static const char *const families[] = {"score", "select", "compress", "attend", "decompress"};
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_problem problem = ratio_problem(32768);
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    options.tuning = TAMIS_TUNING_REQUIRE;
    for (int i = 0; i < 5; i++) {
        char text[64];
        snprintf(text, sizeof text, "no %s kernel was timed on this GPU for a seq_len near 32768", families[i]);
        expect_refused(&bench, &problem, &options, TAMIS_ENOTFOUND, text);
        put_time(bench.store, families[i], families[i], 32768, 100, 0);
    }
    make_plan(&bench, 32768, &options);
    make_plan(&bench, 20000, &options);
    problem.seq_len = 8192;
    expect_refused(&bench, &problem, &options, TAMIS_ENOTFOUND, "near 8192: run tamis tune");
    problem.selection.policy = TAMIS_DENSE; /* another kernel's work */
    problem.seq_len = 32768;
    expect_refused(&bench, &problem, &options, TAMIS_ENOTFOUND, "no attend kernel was timed");
    options.tuning = (tamis_tuning)9;
    expect_refused(&bench, &problem, &options, TAMIS_EINVAL, "tuning is 9");
    options.tuning = TAMIS_TUNING_USE;
    options.compiling = (tamis_compiling)-1;
    expect_refused(&bench, &problem, &options, TAMIS_EINVAL, "compiling is -1");
    options.struct_size = 8;
    expect_refused(&bench, &problem, &options, TAMIS_EINVAL, "TAMIS_PLAN_OPTIONS_INIT");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_required)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_required, NULL);
}
END_TEST

/* A tuned variant whose cubin does not load: the next is taken, and said; of all that do not load, the best one's reason. */
static void expect_passed_over(const void *argument)
{
    const bool *all = argument;
    tamis_counters counters = TAMIS_COUNTERS_INIT;
    const tamis_problem problem = ratio_problem(32768);
    struct gpu_bench bench;
    bench_environment(NULL);
    bench_open(&bench);
    put_time(bench.store, "attend", "attend", 32768, 100, 0);
    put_time(bench.store, "attend", SECOND, 32768, 80, 0);
    if (*all) {
        expect_refused(&bench, &problem, NULL, TAMIS_ECUDA, SECOND);
    } else {
        bench.inject("cuLibraryLoadData", 4, 200); /* score, select, compress, and then attention's first */
        make_plan(&bench, 32768, NULL);
        expect_attend(&bench, "attend", "fallback");
        bench_must(tamis_context_counters(&counters, bench.context), "counters");
        child_expect(counters.passed_over == 1 && counters.plans == 1 && counters.found == 6 && counters.compiled == 0,
                     "%lld passed over, %lld plans, %lld found, %lld compiled", (long long)counters.passed_over,
                     (long long)counters.plans, (long long)counters.found, (long long)counters.compiled);
    }
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_passed_over)
{
    const bool all = _i == 1;
    gpu_plan_make_store(&(struct store_plan){.both_attends = true, .bad_cubin = all ? "attend" : NULL});
    child_run(expect_passed_over, &all);
}
END_TEST

struct compiled {
    int begun, ended;
    char last[96];
};

static void on_compile(void *payload, const char *kernel, const char *arch, double milliseconds)
{
    struct compiled *compiled = payload;
    child_expect(strcmp(arch, "sm_90a") == 0, "compiled for %s", arch);
    if (milliseconds < 0)
        compiled->begun++;
    else
        compiled->ended++;
    snprintf(compiled->last, sizeof compiled->last, "%s", kernel);
}

static void expect_compiled(const void *argument)
{
    static const char *settings[] = {"TAMIS_LIBNVRTC", NULL, NULL};
    struct compiled compiled = {0, 0, ""};
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_counters counters = TAMIS_COUNTERS_INIT;
    const tamis_problem problem = ratio_problem(32768);
    struct gpu_bench bench;
    (void)argument;
    settings[1] = getenv("TAMIS_FAKE_CUDA");
    bench_environment(settings);
    bench_open(&bench);
    options.on_compile = on_compile;
    options.on_compile_payload = &compiled;
    options.compiling = TAMIS_COMPILE_NEVER;
    expect_refused(&bench, &problem, &options, TAMIS_ENOTFOUND, "score is not compiled for sm_90a");
    child_expect(compiled.begun == 0, "%d compiled", compiled.begun);
    options.compiling = TAMIS_COMPILE_MISSING;
    make_plan(&bench, 32768, &options);
    child_expect(compiled.begun == 5 && compiled.ended == 5 && strcmp(compiled.last, "decompress") == 0,
                 "%d begun, %d ended, last %s", compiled.begun, compiled.ended, compiled.last);
    options.compiling = TAMIS_COMPILE_NEVER;
    make_plan(&bench, 32768, &options);
    bench_must(tamis_context_counters(&counters, bench.context), "counters");
    child_expect(counters.compiled == 5 && counters.found == 5 && counters.plans == 2 && counters.compile_ms >= 0,
                 "%lld compiled, %lld found, %lld plans", (long long)counters.compiled, (long long)counters.found,
                 (long long)counters.plans);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_compiling)
{
    gpu_plan_make_store(&(struct store_plan){.no_cubins = true});
    child_run(expect_compiled, NULL);
}
END_TEST

/* A plan for those who time a variant: it and no other. */
static void expect_forced(const void *argument)
{
    const struct tamisi_force force = {"attend", SECOND}, unknown = {"attend", "third"};
    const tamis_problem problem = ratio_problem(32768);
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamisi_plan_create_forced(&bench.plan, bench.context, bench.store, &problem, NULL, &force), "plan");
    expect_attend(&bench, SECOND, "named by the caller\n");
    tamis_plan_free(bench.plan);
    bench.plan = NULL;
    tamis_status status = tamisi_plan_create_forced(&bench.plan, bench.context, bench.store, &problem, NULL, &unknown);
    child_expect(status == TAMIS_ENOTFOUND && strstr(tamis_last_error(), "third"), "%s", tamis_last_error());
    bench.inject("cuLibraryLoadData", 4, 200);
    status = tamisi_plan_create_forced(&bench.plan, bench.context, bench.store, &problem, NULL, &force);
    child_expect(status == TAMIS_ECUDA && !bench.plan, "%s: %s", tamis_status_name(status), tamis_last_error());
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_forced)
{
    gpu_plan_make_store(&(struct store_plan){.both_attends = true});
    child_run(expect_forced, NULL);
}
END_TEST

TCase *gpu_choice_case(void)
{
    TCase *choices = tcase_create("choices");
    tcase_add_checked_fixture(choices, gpu_plan_set_up, folder_remove);
    tcase_add_test(choices, test_tuned_plans);
    tcase_add_test(choices, test_required);
    tcase_add_loop_test(choices, test_passed_over, 0, 2);
    tcase_add_test(choices, test_compiling);
    tcase_add_test(choices, test_forced);
    return choices;
}
