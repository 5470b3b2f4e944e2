/*
 * gpu_plan_case.c: the store, the environment and the checks that the GPU plan suite's files share.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <dlfcn.h>

/* ------------------------------------------------------------------------------------------------------------ fixtures */

void gpu_plan_set_up(void)
{
    const char *fake = getenv("TAMIS_FAKE_CUDA");
    ck_assert_msg(fake && access(fake, R_OK) == 0, "TAMIS_FAKE_CUDA must name the fake libcuda");
    folder_make("gpu-plan");
}

/* ----------------------------------------------------------------------------------------------------------- the store */

const struct gpu_plan_entry gpu_plan_entries[GPU_PLAN_ENTRIES] = {
    {"score", "score_stats", 128, 60 * 1024, 64, 0}, {"score", "score_stats_tma", 640, 90 * 1024, 192, 32},
    {"score", "score_merge", 256, 0, 256, 0},        {"score", "score_sum", 64, 50 * 1024, 32, 0},
    {"score", "score_sum_tma", 512, 80 * 1024, 208, 40}, {"select", "select_pool", 224, 0, 224, 0},
    {"select", "select_budget", 1024, 0, 6, 2900},   {"select", "select_tokens", 512, 0, 3, 5000},
    {"compress", "compress", 160, 0, 20, 0},         {"attend", "attend", 96, 100 * 1024, 48, 0},
    {"decompress", "decompress", 192, 0, 28, 0},     {"attend", "attend_tma", 384, 200 * 1024, 112, 80},
    {"blocks", "blocks_bits", 96, 0, 3, 0},          {"blocks", "blocks_rows", 160, 0, 5, 0},
    {"blocks", "blocks_order", 512, 0, 1, 0},        {"attend_blocks", "attend_blocks", 256, 90 * 1024, 128, 32},
    {"attend_blocks", "attend_blocks_tma", 384, 210 * 1024, 128, 64},
    {"pattern", "pattern_sliding", 96, 0, 3, 0},     {"pattern", "pattern_means", 288, 0, 1, 0},
    {"pattern", "pattern_products", 224, 0, 48, 48}, {"pattern", "pattern_choose", 160, 0, 1, 0},
    {"pattern_lines", "pattern_stats", 256, 70 * 1024, 128, 64}, {"pattern_lines", "pattern_merge", 128, 0, 128, 0},
    {"pattern_lines", "pattern_lines", 256, 100 * 1024, 128, 64}, {"pattern_heads", "pattern_heads", 992, 0, 1, 0},
    {"pattern_heads", "pattern_soften", 192, 0, 1, 0}, {"pattern_heads", "pattern_cut", 992, 0, 1, 0},
    {"pattern_heads", "pattern_lists", 224, 0, 7, 0}, {"pattern_xattn", "pattern_xattn", 128, 110 * 1024, 128, 2},
    {"pattern_xattn", "pattern_xattn_tma", 384, 200 * 1024, 160, 112},
    {"attend_map", "attend_map", 128, 96 * 1024, 144, 48}, {"attend_map", "attend_map_tma", 512, 204 * 1024, 176, 96}};

bool gpu_plan_has(bool tma, const char *stage)
{
    const char *const twins[] = {"score_stats", "score_sum", "attend", "attend_blocks", "attend_map", "pattern_xattn"};
    const size_t length = strlen(stage);
    if (length > 4 && strcmp(stage + length - 4, "_tma") == 0) return tma;
    for (size_t i = 0; i < sizeof twins / sizeof *twins; i++)
        if (strcmp(stage, twins[i]) == 0) return !tma;
    return true;
}

static void fill_entries(struct tamisi_variant *variant, const struct store_plan *plan)
{
    const bool tma = plan->tma != (plan->both_attends && variant->rank > 0);
    for (size_t i = 0; i < GPU_PLAN_ENTRIES; i++) {
        const struct gpu_plan_entry *from = &gpu_plan_entries[i];
        if (strcmp(from->family, variant->family) != 0) continue;
        if (plan->drop_stage && strcmp(plan->drop_stage, from->stage) == 0) continue;
        if (!gpu_plan_has(tma, from->stage)) continue;
        struct tamisi_entry *entry = &variant->entries[variant->entry_count++];
        const bool attend = strcmp(from->family, "attend") == 0;
        snprintf(entry->stage, sizeof entry->stage, "%s", attend && plan->odd_stage ? plan->odd_stage : from->stage);
        snprintf(entry->symbol, sizeof entry->symbol, "k_%.40s_%s", variant->name, from->stage);
        entry->threads = from->threads;
        entry->shared_bytes = attend && plan->attend_shared ? plan->attend_shared : from->shared_bytes;
        entry->block_m = from->block_m;
        entry->block_n = from->block_n;
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
    ck_assert_int_eq(
        tamisi_store_put_cubin(store, &variant->source, variant->arch, options, "nvrtc 13.0 of a test", &compiled),
        TAMIS_OK);
}

/* The source declares each kernel, which is all that the fake NVRTC looks at. */
static void put_variant(tamis_store *store, const struct store_plan *plan, const char *family, const char *name, int rank,
                        int abi)
{
    struct tamisi_variant variant = {.rank = rank, .abi = abi};
    struct tamisi_buf source = TAMISI_BUF_INIT;
    const bool typed = strcmp(family, "score") == 0 || strncmp(family, "attend", 6) == 0;
    const bool is = plan->bad_source && strcmp(plan->bad_source, family) == 0;
    snprintf(variant.spec, sizeof variant.spec, "model");
    snprintf(variant.family, sizeof variant.family, "%s", family);
    snprintf(variant.name, sizeof variant.name, "%s", name);
    snprintf(variant.arch, sizeof variant.arch, "%s", plan->arch ? plan->arch : "sm_90a");
    const bool maps = strcmp(family, TAMISI_MAP_FAMILY) == 0;
    snprintf(variant.params, sizeof variant.params, "block_m=16%s warps=%d", maps ? " output_map=1" : "", rank > 0 ? 8 : 4);
    variant.dtype = !typed ? TAMISI_ANY : plan->fp16 ? TAMIS_FP16 : TAMIS_BF16;
    variant.head_dim = strcmp(family, "select") == 0 || strcmp(family, "blocks") == 0 ? 0 : 128;
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
    static const char *const families[] = {"score",  "select",        "compress", "attend",        "decompress",    "blocks",
                                           "attend_blocks", "pattern", "pattern_lines", "pattern_heads", "pattern_xattn"};
    const size_t family_count = plan->patterns ? sizeof families / sizeof *families : 5;
    const tamis_store_options create = {sizeof create, TAMIS_STORE_CREATE, NULL, NULL};
    tamis_store *store;
    ck_assert_msg(tamis_store_open(&store, folder_file("a.tamis"), &create) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(tamisi_store_begin(store), TAMIS_OK); /* one wait for the disk */
    for (size_t i = 0; i < family_count; i++) {
        const bool other = i == 0 ? plan->abi != 0 : i == 3 && plan->second_attend;
        const int abi = !other ? tamisi_family_abi(families[i]) : i == 0 ? plan->abi : TAMIS_KERNEL_ABI + 1;
        put_variant(store, plan, families[i], families[i], 0, abi);
    }
    const int map_abi = tamisi_family_abi(TAMISI_MAP_FAMILY);
    if (plan->maps) put_variant(store, plan, TAMISI_MAP_FAMILY, "attend_map", 0, map_abi);
    if (plan->maps && plan->both_attends) put_variant(store, plan, TAMISI_MAP_FAMILY, "attend_map_second", 1, map_abi);
    if (plan->second_attend || plan->both_attends) put_variant(store, plan, "attend", "attend_second", 1, TAMIS_KERNEL_ABI);
    if (plan->second_lists) {
        put_variant(store, plan, "attend_blocks", "attend_blocks_second", 1, tamisi_family_abi("attend_blocks"));
        put_variant(store, plan, "pattern_lines", "pattern_lines_second", 1, tamisi_family_abi("pattern_lines"));
    }
    ck_assert_int_eq(tamisi_store_commit(store), TAMIS_OK);
    tamis_store_free(store);
}

/* ---------------------------------------------------------------------------------------------------------- in a child */

void bench_environment(const char *const *settings)
{
    setenv("TAMIS_LIBCUDA", getenv("TAMIS_FAKE_CUDA"), 1);
    setenv("TAMIS_LIBNVRTC", folder_file("no-nvrtc"), 1);
    setenv("TAMIS_CACHE_DIR", folder_file("cache"), 1);
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
    find_control(&bench->assume, library, "fake_cuda_assume");
}

void bench_open(struct gpu_bench *bench)
{
    memset(bench, 0, sizeof *bench);
    bench_fake(bench);
    bench_must(tamis_context_create(&bench->context, NULL), "context");
    bench_must(tamis_store_open(&bench->store, folder_file("a.tamis"), NULL), "store");
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
