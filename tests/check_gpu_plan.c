/*
 * check_gpu_plan.c: GPU contexts and plans without a GPU: which kernels are chosen, where cubins come from, and the reason
 * that every failure gives. Launches are in check_gpu_launch.c, faults of single driver calls in check_gpu_fault.c. All run
 * against fake_cuda (TAMIS_FAKE_CUDA), each case in a process of its own.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <sys/stat.h>

Suite *gpu_plan_suite(void);

char gpu_plan_folder[PATH_MAX / 2];

/* ------------------------------------------------------------------------------------------------------------ fixtures */

void gpu_plan_set_up(void)
{
    const char *temp = getenv("TMPDIR"), *fake = getenv("TAMIS_FAKE_CUDA");
    ck_assert_msg(fake && access(fake, R_OK) == 0, "TAMIS_FAKE_CUDA must name the fake libcuda");
    snprintf(gpu_plan_folder, sizeof gpu_plan_folder, "%s/tamis-gpu-plan-XXXXXX", temp && *temp ? temp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(gpu_plan_folder));
}

static void remove_folder(const char *path)
{
    DIR *directory = opendir(path);
    for (struct dirent *item; directory && (item = readdir(directory));) {
        char child[PATH_MAX];
        snprintf(child, sizeof child, "%s/%s", path, item->d_name);
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0 && unlink(child) != 0) remove_folder(child);
    }
    if (directory) closedir(directory);
    rmdir(path);
}

void gpu_plan_tear_down(void) { remove_folder(gpu_plan_folder); }

const char *gpu_plan_file(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", gpu_plan_folder, name);
    return path;
}

/* ----------------------------------------------------------------------------------------------------------- the store */

/* Rows a block, nearly all different, so that no grid is right by accident. */
static const struct {
    const char *family, *stage;
    int threads, shared_bytes, block_m;
} entries[] = {
    {"score", "score_stats", 128, 60 * 1024, 64}, {"score", "score_merge", 256, 0, 256},
    {"score", "score_sum", 64, 50 * 1024, 32},    {"select", "select_pool", 224, 0, 224},
    {"select", "select_budget", 1024, 0, 1},      {"select", "select_tokens", 512, 0, 1},
    {"compress", "compress", 160, 0, 20},         {"attend", "attend", 96, 100 * 1024, 48},
    {"decompress", "decompress", 192, 0, 28}};

static void fill_entries(struct tamisi_variant *variant, const struct store_plan *plan)
{
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        if (strcmp(entries[i].family, variant->family) != 0) continue;
        if (plan->drop_stage && strcmp(plan->drop_stage, entries[i].stage) == 0) continue;
        struct tamisi_entry *entry = &variant->entries[variant->entry_count++];
        const bool attend = strcmp(entries[i].stage, "attend") == 0;
        snprintf(entry->stage, sizeof entry->stage, "%s", attend && plan->odd_stage ? plan->odd_stage : entries[i].stage);
        snprintf(entry->symbol, sizeof entry->symbol, "k_%.40s_%s", variant->name, entries[i].stage);
        entry->threads = entries[i].threads;
        entry->shared_bytes = attend && plan->attend_shared ? plan->attend_shared : entries[i].shared_bytes;
        entry->block_m = entries[i].block_m;
    }
}

static void put_cubin(tamis_store *store, const struct tamisi_variant *variant, bool bad)
{
    char options[TAMISI_OPTIONS_SIZE], data[128];
    struct tamisi_compiled compiled = {.cubin = data};
    const int bytes = snprintf(data, sizeof data, "%s of %s", bad ? "bad cubin" : "cubin", variant->name);
    compiled.cubin_bytes = (size_t)bytes + 1;
    compiled.resource_count = variant->entry_count;
    for (int i = 0; i < variant->entry_count; i++) {
        memcpy(compiled.resources[i].symbol, variant->entries[i].symbol, sizeof compiled.resources[i].symbol);
        compiled.resources[i].registers = 100 + i;
    }
    tamisi_compile_options(options, variant->arch);
    ck_assert_int_eq(tamisi_store_put_cubin(store, &variant->source, variant->arch, options, "nvrtc 13.0 of a test", &compiled),
                     TAMIS_OK);
}

/* The source declares each kernel, which is all that the fake NVRTC looks at. */
static void put_variant(tamis_store *store, const struct store_plan *plan, const char *family, const char *name, int rank,
                        int abi)
{
    struct tamisi_variant variant = {.rank = rank, .abi = abi};
    struct tamisi_buf source = TAMISI_BUF_INIT;
    const bool typed = strcmp(family, "score") == 0 || strcmp(family, "attend") == 0;
    const bool is = plan->bad_source && strcmp(plan->bad_source, family) == 0;
    snprintf(variant.spec, sizeof variant.spec, "model");
    snprintf(variant.family, sizeof variant.family, "%s", family);
    snprintf(variant.name, sizeof variant.name, "%s", name);
    snprintf(variant.arch, sizeof variant.arch, "%s", plan->arch ? plan->arch : "sm_90a");
    snprintf(variant.params, sizeof variant.params, "block_m=16");
    variant.dtype = typed ? TAMIS_BF16 : TAMISI_ANY;
    variant.head_dim = strcmp(family, "select") == 0 ? 0 : 128;
    fill_entries(&variant, plan);
    tamisi_buf_printf(&source, "// %s\n%s", name, is ? "#error of a test\n" : "");
    for (int i = 0; i < variant.entry_count; i++)
        tamisi_buf_printf(&source, "extern \"C\" __global__ void %s() {}\n", variant.entries[i].symbol);
    variant.source = tamisi_hash_bytes(source.data, source.size);
    if (!plan->no_sources)
        ck_assert_int_eq(tamisi_store_put_source(store, &variant.source, name, source.data), TAMIS_OK);
    tamisi_buf_free(&source);
    ck_assert_msg(tamisi_store_put_variant(store, &variant) == TAMIS_OK, "%s", tamis_last_error());
    if (!plan->no_cubins && !plan->no_sources)
        put_cubin(store, &variant, plan->bad_cubin && strcmp(plan->bad_cubin, family) == 0);
}

void gpu_plan_make_store(const struct store_plan *plan)
{
    static const char *const families[] = {"score", "select", "compress", "attend", "decompress"};
    const tamis_store_options create = {sizeof create, TAMIS_STORE_CREATE, NULL, NULL};
    tamis_store *store;
    ck_assert_msg(tamis_store_open(&store, gpu_plan_file("a.tamis"), &create) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(tamisi_store_begin(store), TAMIS_OK); /* one wait for the disk */
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const bool other = i == 0 ? plan->abi != 0 : i == 3 && plan->second_attend;
        const int abi = !other ? TAMIS_KERNEL_ABI : i == 0 ? plan->abi : TAMIS_KERNEL_ABI + 1;
        put_variant(store, plan, families[i], families[i], 0, abi);
    }
    if (plan->second_attend) put_variant(store, plan, "attend", "attend_second", 1, TAMIS_KERNEL_ABI);
    ck_assert_int_eq(tamisi_store_commit(store), TAMIS_OK);
    tamis_store_free(store);
}

/* ---------------------------------------------------------------------------------------------------------- in a child */

void bench_environment(const char *const *settings)
{
    setenv("TAMIS_LIBCUDA", getenv("TAMIS_FAKE_CUDA"), 1);
    setenv("TAMIS_LIBNVRTC", gpu_plan_file("no-nvrtc"), 1);
    setenv("TAMIS_CACHE_DIR", gpu_plan_file("cache"), 1);
    for (; settings && settings[0]; settings += 2) setenv(settings[0], settings[1], 1);
}

void bench_must(tamis_status status, const char *what)
{
    child_expect(status == TAMIS_OK, "%s: %s: %s", what, tamis_status_name(status), tamis_last_error());
}

static void find_control(void *out, void *library, const char *name)
{
    void *symbol = library ? dlsym(library, name) : NULL;
    child_expect(symbol != NULL, "the fake libcuda has no %s", name);
    memcpy(out, &symbol, sizeof symbol);
}

void bench_fake(struct gpu_bench *bench)
{
    void *library = dlopen(getenv("TAMIS_FAKE_CUDA"), RTLD_NOW);
    find_control(&bench->counts, library, "fake_cuda_counts");
    find_control(&bench->inject, library, "fake_cuda_fail");
    find_control(&bench->watch, library, "fake_cuda_watch");
}

void bench_open(struct gpu_bench *bench)
{
    memset(bench, 0, sizeof *bench);
    bench_fake(bench);
    bench_must(tamis_context_create(&bench->context, NULL), "context");
    bench_must(tamis_store_open(&bench->store, gpu_plan_file("a.tamis"), NULL), "store");
}

void bench_close(struct gpu_bench *bench)
{
    tamis_plan_free(bench->plan);
    tamis_store_free(bench->store);
    tamis_context_free(bench->context);
    bench->plan = NULL;
    bench->store = NULL;
    bench->context = NULL;
}

tamis_problem bench_problem(long long seq_len)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.q_heads = 32;
    problem.kv_heads = 8;
    problem.head_dim = 128;
    problem.seq_len = seq_len;
    problem.selection.policy = TAMIS_COVERAGE;
    problem.selection.coverage = 0.005;
    return problem;
}

void bench_expect_closed(const struct gpu_bench *bench)
{
    struct fake_cuda_counts counts;
    bench->counts(&counts);
    child_expect(counts.misuses == 0, "%ld misuses, the first: %s", counts.misuses, counts.misuse);
    child_expect(counts.reclaimed == 0, "%ld streams and allocations were left to their context's end", counts.reclaimed);
    child_expect(counts.retained == 0 && counts.pushed == 0 && counts.libraries == 0 && counts.streams == 0 &&
                     counts.events == 0 && counts.allocations == 0,
                 "still open: %ld contexts, %ld pushed, %ld libraries, %ld streams, %ld events, %ld allocations",
                 counts.retained, counts.pushed, counts.libraries, counts.streams, counts.events, counts.allocations);
}

/* --------------------------------------------------------------------------------------------------------------- plans */

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
    child_expect(strstr(text, "device: Fake GPU 9.0, compute capability 9.0, 132 SMs, kernels for sm_90a\n") != NULL, "%s", text);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        snprintf(wanted, sizeof wanted, "\n%s: k_%s_%s, %d threads, ", entries[i].stage, entries[i].family, entries[i].stage,
                 entries[i].threads);
        child_expect(strstr(text, wanted) != NULL, "no \"%s\" in: %s", wanted, text);
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
    ck_assert_int_ne(access(gpu_plan_file("cache"), F_OK), 0);
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
};

static void expect_read_only(const void *argument)
{
    const struct read_only *wanted = argument;
    const tamis_problem problem = bench_problem(4096);
    const tamis_store_options read = {sizeof read, TAMIS_STORE_READ, NULL, NULL};
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    struct gpu_bench bench = {NULL};
    options.log = note_log;
    bench_environment(wanted->compiler ? with_nvrtc() : NULL);
    if (wanted->cache) setenv("TAMIS_CACHE_DIR", wanted->cache, 1);
    bench_fake(&bench);
    bench_must(tamis_context_create(&bench.context, &options), "context");
    bench_must(tamis_store_open(&bench.store, gpu_plan_file("a.tamis"), &read), "store");
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "plan");
    child_expect(*tamis_last_error() == '\0', "success, but: %s", tamis_last_error());
    child_expect(seen.compiled == wanted->compiled && seen.warned == wanted->warned, "%d compiled, %d warnings: %s",
                 seen.compiled, seen.warned, seen.warning);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

/* Into the user's cache; where there is none that can be written, nowhere, which is a warning a kernel. */
START_TEST(test_compiles_into_cache)
{
    gpu_plan_make_store(&(struct store_plan){.no_cubins = true});
    child_run(expect_read_only, &(struct read_only){.cache = "/dev/null/none", .compiler = true, .compiled = 5, .warned = 5});
    child_run(expect_read_only, &(struct read_only){.compiler = true, .compiled = 5});
    child_run(expect_read_only, &(struct read_only){.compiler = false});
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------ failures */

static const struct failure {
    struct store_plan store;
    const char *settings[SETTINGS_MAX];
    int head_dim;
    bool fp16, compiler;
    tamis_status status;
    const char *message, *detail;
} failures[] = {
    {.head_dim = 64, .status = TAMIS_EUNSUPPORTED,
     .message = "a.tamis: no score kernel for head_dim 64, bf16, sm_90a: run tamis gen with --arch sm_90a"},
    {.fp16 = true, .status = TAMIS_EUNSUPPORTED, .message = "no score kernel for head_dim 128, fp16, sm_90a"},
    {.settings = {"FAKE_CUDA_CC", "8.0"}, .status = TAMIS_EUNSUPPORTED, .message = "bf16, sm_80: run tamis gen with --arch sm_80"},
    {.store = {.abi = 99}, .status = TAMIS_EUNSUPPORTED,
     .message = "its score kernels are for another libtamis (interface 99, this one has 1)"},
    {.store = {.drop_stage = "select_tokens"}, .status = TAMIS_ECORRUPT, .message = "no kernel serves select_tokens"},
    {.store = {.odd_stage = "attend_odd"}, .status = TAMIS_EUNSUPPORTED,
     .message = "k_attend_attend serves a stage that is unknown here: attend_odd"},
    {.settings = {"FAKE_CUDA_MISSING", "attend_attend"}, .status = TAMIS_ECUDA,
     .message = "k_attend_attend: CUDA_ERROR_NOT_FOUND"},
    {.store = {.bad_cubin = "compress"}, .status = TAMIS_ECUDA, .message = "compress: CUDA_ERROR_INVALID_IMAGE"},
    {.store = {.bad_cubin = "compress"}, .settings = {"FAKE_CUDA_VERSION", "12020"}, .status = TAMIS_ECUDA,
     .message = "is invalid; it was compiled by NVRTC 13.0, newer than the driver, which supports CUDA 12.2"},
    {.settings = {"FAKE_CUDA_FAIL", "cuLibraryLoadData:3:2"}, .status = TAMIS_ENOMEM, .message = "CUDA_ERROR_OUT_OF_MEMORY"},
    {.store = {.attend_shared = 300 * 1024}, .status = TAMIS_ECUDA, .message = "k_attend_attend: CUDA_ERROR_INVALID_VALUE"},
    {.store = {.no_cubins = true}, .status = TAMIS_ECOMPILE, .message = "no NVRTC where TAMIS_LIBNVRTC says"},
    {.store = {.no_cubins = true, .bad_source = "attend"}, .compiler = true, .status = TAMIS_ECOMPILE,
     .message = "attend:2: #error directive", .detail = "attend(2): error: #error directive"},
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
    const char *settings[SETTINGS_MAX];
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
    {{"FAKE_CUDA_FAIL", "cuDevicePrimaryCtxRetain:1:2"}, 0, TAMIS_ENOMEM, "cannot open a context on the GPU: CUDA_ERROR_OUT"},
    {{"FAKE_CUDA_FAIL", "cuDeviceGetAttribute:2:999"}, 0, TAMIS_ECUDA, "cannot read the GPU's attributes: CUDA_ERROR_UNKNOWN"},
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
    tcase_add_checked_fixture(plans, gpu_plan_set_up, gpu_plan_tear_down);
    tcase_add_test(plans, test_plan_from_cubins);
    tcase_add_test(plans, test_two_contexts);
    tcase_add_test(plans, test_next_rank);
    tcase_add_test(plans, test_compiles_into_store);
    tcase_add_test(plans, test_compiles_into_cache);
    tcase_add_loop_test(plans, test_plan_failure, 0, sizeof failures / sizeof *failures);
    tcase_add_loop_test(plans, test_context, 0, sizeof context_failures / sizeof *context_failures);
    tcase_add_loop_test(plans, test_arch, 0, sizeof archs / sizeof *archs);
    suite_add_tcase(suite, plans);
    suite_add_tcase(suite, gpu_launch_case());
    suite_add_tcase(suite, gpu_fault_case());
    return suite;
}
