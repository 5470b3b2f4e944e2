/*
 * check_gpu_plan.c: GPU contexts and plans without a GPU: which kernels are chosen, where cubins come from, and the reason
 * that every failure gives. Launches are in check_gpu_launch.c, check_gpu_maps.c, check_gpu_blocks.c and check_gpu_patterns.c,
 * threads and contexts of the host in check_gpu_threads.c, faults of single driver calls in check_gpu_fault.c. All run against
 * fake_cuda (TAMIS_FAKE_CUDA), each case in a process of its own.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

Suite *gpu_plan_suite(void);

/* --------------------------------------------------------------------------------------------------------------- plans */

static bool with_tma; /* of the store */

static void expect_plan(const void *settings)
{
    const tamis_problem problem = bench_problem(131072);
    struct gpu_bench bench;
    struct fake_cuda_counts counts;
    char text[4096], wanted[160];
    bench_environment(settings);
    bench_open(&bench);
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "plan");
    bench.counts(&counts);
    child_expect(counts.libraries == 5 && counts.retained == 1 && counts.pushed == 0 && counts.launches == 0,
                 "%ld libraries, %ld contexts, %ld pushed, %ld launches", counts.libraries, counts.retained, counts.pushed,
                 counts.launches);
    bench_must(tamis_plan_describe(bench.plan, text, sizeof text, NULL), "describe");
    child_expect(strstr(text, "device: Fake GPU 9.0, compute capability 9.0, 132 SMs, kernels for sm_90a\n") != NULL,
                 "%s", text);
    for (size_t i = 0; i < GPU_PLAN_ENTRIES; i++) {
        const struct gpu_plan_entry *entry = &gpu_plan_entries[i];
        const char *family = entry->family;
        const bool of_others = strstr(family, "blocks") || strstr(family, "pattern") || strstr(family, "map");
        const bool there = gpu_plan_has(with_tma, entry->stage) && !of_others;
        snprintf(wanted, sizeof wanted, "\n%s: k_%s_%s, %d threads, ", entry->stage, entry->family, entry->stage,
                 entry->threads);
        child_expect((strstr(text, wanted) != NULL) == there, "\"%s\" is%s in: %s", wanted, there ? " not" : "", text);
    }
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_plan_from_cubins)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_plan, NULL);
}
END_TEST

/* Attention by either kernel; of both, the one that ranks first. */
START_TEST(test_plan_attends)
{
    const struct store_plan store = {.tma = _i % 2 == 1, .both_attends = _i / 2 == 1};
    with_tma = store.tma;
    gpu_plan_make_store(&store);
    child_run(expect_plan, NULL);
}
END_TEST

/* Two contexts are two references to the device's one primary context; plans outlive neither. */
static void expect_two_contexts(const void *argument)
{
    const tamis_problem problem = bench_problem(4096);
    struct gpu_bench first, second;
    struct fake_cuda_counts counts;
    (void)argument;
    bench_environment(NULL);
    bench_open(&first);
    bench_open(&second);
    bench_must(tamis_plan_create(&first.plan, first.context, first.store, &problem), "first plan");
    bench_must(tamis_plan_create(&second.plan, second.context, second.store, &problem), "second plan");
    first.counts(&counts);
    child_expect(counts.retained == 2 && counts.libraries == 10, "%ld contexts, %ld libraries", counts.retained,
                 counts.libraries);
    bench_close(&first);
    second.counts(&counts);
    child_expect(counts.retained == 1 && counts.libraries == 5, "%ld contexts, %ld libraries", counts.retained,
                 counts.libraries);
    bench_close(&second);
    bench_expect_closed(&second);
}

START_TEST(test_two_contexts)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_two_contexts, NULL);
}
END_TEST

/* Plans of one context share what is loaded, which stays as long as one of them does. */
static void expect_shared(const void *argument)
{
    const tamis_problem problem = bench_problem(4096), longer = bench_problem(131072);
    tamis_counters counters = TAMIS_COUNTERS_INIT;
    struct gpu_bench bench;
    struct fake_cuda_counts counts;
    tamis_plan *other;
    char text[4096];
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "first plan");
    bench_must(tamis_plan_create(&other, bench.context, bench.store, &longer), "second plan");
    bench.counts(&counts);
    child_expect(counts.libraries == 5, "%ld libraries of two plans", counts.libraries);
    bench_must(tamis_context_counters(&counters, bench.context), "counters");
    child_expect(counters.found == 10 && counters.compiled == 0, "%lld found", (long long)counters.found);
    tamis_plan_free(bench.plan);
    bench.plan = other;
    bench.counts(&counts);
    child_expect(counts.libraries == 5, "%ld libraries of the plan that is left", counts.libraries);
    bench_must(tamis_plan_describe(other, text, sizeof text, NULL), "describe");
    child_expect(strstr(text, " registers, ") && !strstr(text, " 0 registers"), "no resources: %s", text);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_shared)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_shared, NULL);
}
END_TEST

/* A variant for another library is passed over for one of the next rank. */
static void expect_second(const void *argument)
{
    const tamis_problem problem = bench_problem(4096);
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "plan");
    const struct tamisi_gpu_plan *loaded = bench.plan->state;
    child_expect(strcmp(loaded->kernels[TAMISI_ATTEND].entry.symbol, "k_attend_second_attend") == 0, "%s",
                 loaded->kernels[TAMISI_ATTEND].entry.symbol);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_next_rank)
{
    gpu_plan_make_store(&(struct store_plan){.second_attend = true});
    child_run(expect_second, NULL);
}
END_TEST

/* ---- compiling what the store lacks */

static const char *const *with_nvrtc(void)
{
    static const char *settings[] = {"TAMIS_LIBNVRTC", NULL, NULL};
    settings[1] = getenv("TAMIS_FAKE_CUDA");
    return settings;
}

START_TEST(test_compiles_into_store)
{
    gpu_plan_make_store(&(struct store_plan){.no_cubins = true});
    child_run(expect_plan, with_nvrtc());
    child_run(expect_plan, NULL); /* now without a compiler */
    ck_assert_int_ne(access(folder_file("cache"), F_OK), 0);
}
END_TEST

static struct {
    int compiled, warned;
    char warning[256];
} seen;

static void note_log(void *payload, tamis_log_level level, const char *message)
{
    (void)payload;
    if (level == TAMIS_LOG_INFO && strstr(message, "compiling ")) seen.compiled++;
    if (level != TAMIS_LOG_WARNING) return;
    seen.warned++;
    snprintf(seen.warning, sizeof seen.warning, "%s", message);
}

struct read_only {
    const char *cache; /* TAMIS_CACHE_DIR; NULL: the test's own */
    bool compiler;
    int compiled, warned; /* how often */
    const char *why;      /* in the last warning; NULL: none */
    bool writes;          /* the store is not read-only after all */
};

static void expect_read_only(const void *argument)
{
    const struct read_only *wanted = argument;
    const tamis_problem problem = bench_problem(4096);
    const tamis_store_options read = {sizeof read, wanted->writes ? TAMIS_STORE_WRITE : TAMIS_STORE_READ, NULL, NULL};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    struct gpu_bench bench = {NULL};
    options.log = note_log;
    bench_environment(wanted->compiler ? with_nvrtc() : NULL);
    if (wanted->cache) setenv("TAMIS_CACHE_DIR", wanted->cache, 1);
    bench_fake(&bench);
    bench_must(tamis_context_create(&bench.context, &options), "context");
    bench_must(tamis_store_open(&bench.store, folder_file("a.tamis"), &read), "store");
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "plan");
    child_expect(*tamis_last_error() == '\0', "success, but: %s", tamis_last_error());
    child_expect(seen.compiled == wanted->compiled && seen.warned == wanted->warned, "%d compiled, %d warnings: %s",
                 seen.compiled, seen.warned, seen.warning);
    child_expect(strstr(seen.warning, wanted->why ? wanted->why : "") != NULL, "%s", seen.warning);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

/* Into the user's cache; where there is none that can be written, nowhere, which is a warning a kernel. What the cache has is
   found for a store that could be written too. */
START_TEST(test_compiles_into_cache)
{
    gpu_plan_make_store(&(struct store_plan){.no_cubins = true});
    child_run(expect_read_only,
              &(struct read_only){.cache = "/dev/null/none", .compiler = true, .compiled = 5, .warned = 5,
                                  .why = " is kept in memory only: cannot make the folder /dev/null/none: "});
    child_run(expect_read_only, &(struct read_only){.compiler = true, .compiled = 5});
    child_run(expect_read_only, &(struct read_only){.compiler = false});
    child_run(expect_read_only, &(struct read_only){.compiler = false, .writes = true});
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------ failures */

static const struct failure {
    struct store_plan store;
    const char *settings[3]; /* one pair */
    int head_dim;
    bool fp16, compiler;
    tamis_status status;
    const char *message, *detail;
} failures[] = {
    {.head_dim = 64,
     .status = TAMIS_EUNSUPPORTED,
     .message = "a.tamis: no score kernel for head_dim 64, bf16, sm_90a: run tamis gen with --arch sm_90a"},
    {.fp16 = true, .status = TAMIS_EUNSUPPORTED, .message = "no score kernel for head_dim 128, fp16, sm_90a"},
    {.settings = {"FAKE_CUDA_CC", "8.0"},
     .status = TAMIS_EUNSUPPORTED,
     .message = "bf16, sm_80: run tamis gen with --arch sm_80"},
    {.store = {.abi = 99},
     .status = TAMIS_EUNSUPPORTED,
     .message = "its score kernels are for another libtamis (interface 99, this one has 2)"},
    {.store = {.drop_stage = "select_tokens"}, .status = TAMIS_ECORRUPT, .message = "no kernel serves select_tokens"},
    {.store = {.odd_stage = "attend_odd"},
     .status = TAMIS_EUNSUPPORTED,
     .message = "k_attend_attend serves a stage that is unknown here: attend_odd"},
    {.store = {.odd_stage = "compress"}, .status = TAMIS_ECORRUPT, .message = "a.tamis: no kernel serves attend"},
    {.store = {.tma = true, .attend_shared = 228 * 1024},
     .status = TAMIS_ECUDA,
     .message = "k_attend_attend_tma: CUDA_ERROR_INVALID_VALUE"},
    {.settings = {"FAKE_CUDA_MISSING", "attend_attend"},
     .status = TAMIS_ECUDA,
     .message = "k_attend_attend: CUDA_ERROR_NOT_FOUND"},
    {.store = {.bad_cubin = "compress"}, .status = TAMIS_ECUDA, .message = "compress: CUDA_ERROR_INVALID_IMAGE"},
    {.store = {.bad_cubin = "compress"},
     .settings = {"FAKE_CUDA_VERSION", "12020"},
     .status = TAMIS_ECUDA,
     .message = "is invalid; it was compiled by NVRTC 13.0, newer than the driver, which supports CUDA 12.2"},
    {.settings = {"FAKE_CUDA_FAIL", "cuLibraryLoadData:3:2"},
     .status = TAMIS_ENOMEM,
     .message = "CUDA_ERROR_OUT_OF_MEMORY"},
    {.store = {.attend_shared = 300 * 1024},
     .status = TAMIS_ECUDA,
     .message = "k_attend_attend: CUDA_ERROR_INVALID_VALUE"},
    {.store = {.no_cubins = true}, .status = TAMIS_ECOMPILE, .message = "no NVRTC where TAMIS_LIBNVRTC says"},
    {.store = {.no_cubins = true, .bad_source = "attend"},
     .compiler = true,
     .status = TAMIS_ECOMPILE,
     .message = "attend:2: #error directive",
     .detail = "attend(2): error: #error directive"},
    {.store = {.no_sources = true}, .compiler = true, .status = TAMIS_ENOTFOUND, .message = "source"},
};

static void expect_failure(const void *argument)
{
    const struct failure *failure = argument;
    tamis_problem problem = bench_problem(4096);
    struct gpu_bench bench;
    bench_environment(failure->settings);
    if (failure->compiler) bench_environment(with_nvrtc());
    if (failure->head_dim) problem.head_dim = failure->head_dim;
    if (failure->fp16) problem.dtype = TAMIS_FP16;
    bench_open(&bench);
    bench.plan = (tamis_plan *)(void *)&bench;
    const tamis_status status = tamis_plan_create(&bench.plan, bench.context, bench.store, &problem);
    child_expect(status == failure->status, "%s: %s", tamis_status_name(status), tamis_last_error());
    child_expect(strstr(tamis_last_error(), failure->message) != NULL, "%s", tamis_last_error());
    child_expect(!failure->detail || strstr(tamis_last_error_detail(), failure->detail), "%s", tamis_last_error_detail());
    child_expect(bench.plan == NULL, "the plan is not set to NULL");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_plan_failure)
{
    gpu_plan_make_store(&failures[_i].store);
    child_run(expect_failure, &failures[_i]);
}
END_TEST

static const struct context_failure {
    const char *settings[3]; /* one pair */
    int device;
    tamis_status status;
    const char *message;
} context_failures[] = {
    {{"TAMIS_LIBCUDA", "/none/libcuda.so"}, 0, TAMIS_ENODEVICE, "/none/libcuda.so"},
    {{"FAKE_CUDA_VERSION", "11080"}, 0, TAMIS_EUNSUPPORTED, "CUDA 11.8: 12.0 or newer is needed"},
    {{"FAKE_CUDA_DEVICES", "0"}, 0, TAMIS_ENODEVICE, "CUDA_ERROR_NO_DEVICE"},
    {{NULL}, 1, TAMIS_ENODEVICE, "no GPU 1: there are 1"},
    {{"FAKE_CUDA_DEVICES", "2"}, 1, TAMIS_OK, ""},
    {{"FAKE_CUDA_CC", "7.5"}, 0, TAMIS_EUNSUPPORTED, "Fake GPU 7.5 has compute capability 7.5"},
    {{"FAKE_CUDA_CC", "11.0"}, 0, TAMIS_EUNSUPPORTED, "compute capability 11.0"},
    {{"FAKE_CUDA_CC", "13.0"}, 0, TAMIS_EUNSUPPORTED, "compute capability 13.0"},
    {{"FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain:1:2"},
     0,
     TAMIS_ENOMEM,
     "cannot open a context on the GPU: CUDA_ERROR_OUT"},
    {{"FAKE_CUDA_FAIL", "cuDeviceGetAttribute:2:999"},
     0,
     TAMIS_ECUDA,
     "cannot read the GPU's attributes: CUDA_ERROR_UNKNOWN"},
};

static void expect_context(const void *argument)
{
    const struct context_failure *wanted = argument;
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    struct gpu_bench bench = {NULL};
    bench_environment(wanted->settings);
    bench_fake(&bench);
    options.device = wanted->device;
    const tamis_status status = tamis_context_create(&bench.context, &options);
    child_expect(status == wanted->status, "%s: %s", tamis_status_name(status), tamis_last_error());
    child_expect(strstr(tamis_last_error(), wanted->message) != NULL, "%s", tamis_last_error());
    child_expect((bench.context != NULL) == (status == TAMIS_OK), "the context is not what the status says");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_context) { child_run(expect_context, &context_failures[_i]); }
END_TEST

static const struct {
    const char *cc, *arch;
} archs[] = {{"8.0", "sm_80"}, {"8.6", "sm_86"},  {"8.7", "sm_86"},   {"8.9", "sm_89"},  {"9.0", "sm_90a"},
             {"10.0", "sm_100"}, {"10.3", "sm_100"}, {"12.0", "sm_120"}, {"12.1", "sm_120"}};

static void expect_arch(const void *argument)
{
    const size_t i = *(const size_t *)argument;
    struct gpu_bench bench = {NULL};
    bench_environment((const char *const[]){"FAKE_CUDA_CC", archs[i].cc, NULL});
    bench_fake(&bench);
    bench_must(tamis_context_create(&bench.context, NULL), archs[i].cc);
    const struct tamisi_gpu *gpu = bench.context->state;
    child_expect(strcmp(gpu->arch, archs[i].arch) == 0, "%s runs %s", archs[i].cc, gpu->arch);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_arch)
{
    const size_t i = (size_t)_i;
    child_run(expect_arch, &i);
}
END_TEST

Suite *gpu_plan_suite(void)
{
    Suite *suite = suite_create("gpu_plan");
    TCase *plans = tcase_create("plans");
    tcase_add_checked_fixture(plans, gpu_plan_set_up, folder_remove);
    tcase_add_test(plans, test_plan_from_cubins);
    tcase_add_loop_test(plans, test_plan_attends, 0, 4);
    tcase_add_test(plans, test_two_contexts);
    tcase_add_test(plans, test_shared);
    tcase_add_test(plans, test_next_rank);
    tcase_add_test(plans, test_compiles_into_store);
    tcase_add_test(plans, test_compiles_into_cache);
    tcase_add_loop_test(plans, test_plan_failure, 0, sizeof failures / sizeof *failures);
    tcase_add_loop_test(plans, test_context, 0, sizeof context_failures / sizeof *context_failures);
    tcase_add_loop_test(plans, test_arch, 0, sizeof archs / sizeof *archs);
    suite_add_tcase(suite, plans);
    suite_add_tcase(suite, gpu_launch_case());
    suite_add_tcase(suite, gpu_threads_case());
    suite_add_tcase(suite, gpu_maps_case());
    suite_add_tcase(suite, gpu_blocks_case());
    suite_add_tcase(suite, gpu_patterns_case());
    suite_add_tcase(suite, gpu_fault_case());
    suite_add_tcase(suite, gpu_choice_case());
    suite_add_tcase(suite, gpu_lists_case());
    suite_add_tcase(suite, gpu_output_map_case());
    return suite;
}
