/*
 * gpu_plan.c: from a problem to loaded kernels: take each family's best variant (gpu_choice.c), share it where it is loaded
 * already (gpu_library.c), else get its cubin (store, user's cache, compiler: in this order) and load it, and look up its
 * entries; where that fails, the next best. Everything that can fail for want of a kernel fails here.
 */
#define _GNU_SOURCE
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[TAMISI_STAGE_COUNT] = {
    [TAMISI_SCORE_STATS] = "score_stats",     [TAMISI_SCORE_STATS_TMA] = "score_stats_tma",
    [TAMISI_SCORE_MERGE] = "score_merge",     [TAMISI_SCORE_SUM] = "score_sum",
    [TAMISI_SCORE_SUM_TMA] = "score_sum_tma", [TAMISI_SELECT_POOL] = "select_pool",
    [TAMISI_SELECT_BUDGET] = "select_budget", [TAMISI_SELECT_TOKENS] = "select_tokens",
    [TAMISI_COMPRESS] = "compress",           [TAMISI_ATTEND] = "attend",
    [TAMISI_ATTEND_TMA] = "attend_tma",       [TAMISI_DECOMPRESS] = "decompress",
    [TAMISI_BLOCKS_BITS] = "blocks_bits",     [TAMISI_BLOCKS_ROWS] = "blocks_rows",
    [TAMISI_BLOCKS_ORDER] = "blocks_order",   [TAMISI_ATTEND_BLOCKS] = "attend_blocks",
    [TAMISI_ATTEND_BLOCKS_TMA] = "attend_blocks_tma",
    [TAMISI_PATTERN_SLIDING] = "pattern_sliding",   [TAMISI_PATTERN_MEANS] = "pattern_means",
    [TAMISI_PATTERN_PRODUCTS] = "pattern_products", [TAMISI_PATTERN_CHOOSE] = "pattern_choose",
    [TAMISI_PATTERN_STATS] = "pattern_stats",       [TAMISI_PATTERN_MERGE] = "pattern_merge",
    [TAMISI_PATTERN_LINES] = "pattern_lines",       [TAMISI_PATTERN_HEADS] = "pattern_heads",
    [TAMISI_PATTERN_SOFTEN] = "pattern_soften",     [TAMISI_PATTERN_CUT] = "pattern_cut",
    [TAMISI_PATTERN_LISTS] = "pattern_lists",       [TAMISI_PATTERN_XATTN] = "pattern_xattn",
    [TAMISI_PATTERN_XATTN_TMA] = "pattern_xattn_tma",
    [TAMISI_ATTEND_MAP] = "attend_map",             [TAMISI_ATTEND_MAP_TMA] = "attend_map_tma"};

/* The family whose variants have a maker's stage. */
static const char *maker_family(int stage)
{
    if (stage <= TAMISI_PATTERN_CHOOSE) return "pattern";
    if (stage <= TAMISI_PATTERN_LINES) return "pattern_lines";
    return stage <= TAMISI_PATTERN_LISTS ? "pattern_heads" : "pattern_xattn";
}

/* The user's cache, made if it is to be written; NULL and the last error: there is none. */
static tamis_store *open_cache(const tamis_context *context, tamis_store_mode mode)
{
    const tamis_store_options options = {sizeof options, mode, context->log.fn, context->log.payload};
    tamis_store *cache;
    (void)tamis_store_open(&cache, NULL, &options);
    return cache;
}

static tamis_status put_cubin(tamis_store *target, const struct tamisi_variant *variant, const char *options,
                              const struct tamisi_compiled *compiled)
{
    const struct tamisi_nvrtc *nvrtc;
    TAMIS_TRY(tamisi_nvrtc_get(&nvrtc));
    return tamisi_store_put_cubin(target, &variant->source, variant->arch, options, nvrtc->identity, compiled);
}

/* Keep a cubin just compiled: in the store, else in the user's cache, else not at all. Never a reason to fail. */
static void keep_cubin(const tamis_context *context, tamis_store *store, const struct tamisi_variant *variant,
                       const char *options, const struct tamisi_compiled *compiled)
{
    if (tamisi_store_writable(store) && put_cubin(store, variant, options, compiled) == TAMIS_OK) return;
    tamis_store *cache = open_cache(context, TAMIS_STORE_CREATE);
    if (!cache || put_cubin(cache, variant, options, compiled) != TAMIS_OK)
        tamisi_log(&context->log, TAMIS_LOG_WARNING, "%s is kept in memory only: %s", variant->name, tamis_last_error());
    tamis_store_free(cache);
}

static void tell(const tamis_plan *plan, const struct tamisi_variant *variant, double milliseconds)
{
    const tamis_plan_options *told = &plan->options;
    if (told->on_compile) told->on_compile(told->on_compile_payload, variant->name, variant->arch, milliseconds);
}

static tamis_status compile_variant(struct tamisi_cubin *out, const tamis_plan *plan, tamis_store *store,
                                    const struct tamisi_variant *variant, const char *options)
{
    tamis_context *context = plan->context;
    struct tamisi_buf source = TAMISI_BUF_INIT;
    struct tamisi_compiled compiled = {0};
    TAMIS_TRY(tamisi_store_get_source(&source, store, &variant->source));
    tamisi_log(&context->log, TAMIS_LOG_INFO, "compiling %s for %s", variant->name, variant->arch);
    tell(plan, variant, -1);
    tamis_status status = tamisi_compile(&compiled, variant->name, source.data, variant->arch);
    tamisi_buf_free(&source);
    if (status != TAMIS_OK) return status;
    atomic_fetch_add(&context->counters.compiled, 1);
    atomic_fetch_add(&context->counters.compile_us, (long long)(1000 * compiled.milliseconds));
    tell(plan, variant, compiled.milliseconds);
    keep_cubin(context, store, variant, options, &compiled);
    *out = (struct tamisi_cubin){.data = compiled.cubin, .bytes = compiled.cubin_bytes,
                                 .resource_count = compiled.resource_count};
    memcpy(out->resources, compiled.resources, sizeof out->resources);
    const struct tamisi_nvrtc *nvrtc;
    if (tamisi_nvrtc_get(&nvrtc) == TAMIS_OK) snprintf(out->nvrtc, sizeof out->nvrtc, "%s", nvrtc->identity);
    compiled.cubin = NULL; /* now the cubin's */
    tamisi_compiled_free(&compiled);
    tamisi_error_clear(); /* keep_cubin may have failed, which is no error of this call */
    return TAMIS_OK;
}

static tamis_status get_cubin(struct tamisi_cubin *out, const tamis_plan *plan, tamis_store *store,
                              const struct tamisi_variant *variant)
{
    tamis_context *context = plan->context;
    char options[TAMISI_OPTIONS_SIZE];
    tamisi_compile_options(options, variant->arch);
    if (tamisi_store_get_cubin(out, store, &variant->source, variant->arch, options, NULL) == TAMIS_OK) {
        atomic_fetch_add(&context->counters.found, 1);
        return TAMIS_OK;
    }

    tamis_store *cache = open_cache(context, TAMIS_STORE_READ);
    tamis_status status = TAMIS_ENOTFOUND;
    if (cache) status = tamisi_store_get_cubin(out, cache, &variant->source, variant->arch, options, NULL);
    tamis_store_free(cache);
    tamisi_error_clear(); /* that there is none is no error of this call */
    if (status == TAMIS_OK) {
        atomic_fetch_add(&context->counters.found, 1);
        return TAMIS_OK;
    }
    if (plan->options.compiling == TAMIS_COMPILE_NEVER)
        return tamisi_fail(TAMIS_ENOTFOUND, "%s: %s is not compiled for %s, and TAMIS_COMPILE_NEVER was asked for",
                           tamisi_store_path(store), variant->name, variant->arch);
    return compile_variant(out, plan, store, variant, options);
}

/* The stage that stands in for this one; the stage itself where there is none. */
static int other_of(int stage)
{
    switch (stage) {
    case TAMISI_SCORE_STATS: return TAMISI_SCORE_STATS_TMA;
    case TAMISI_SCORE_STATS_TMA: return TAMISI_SCORE_STATS;
    case TAMISI_SCORE_SUM: return TAMISI_SCORE_SUM_TMA;
    case TAMISI_SCORE_SUM_TMA: return TAMISI_SCORE_SUM;
    case TAMISI_ATTEND: return TAMISI_ATTEND_TMA;
    case TAMISI_ATTEND_TMA: return TAMISI_ATTEND;
    case TAMISI_ATTEND_MAP: return TAMISI_ATTEND_MAP_TMA;
    case TAMISI_ATTEND_MAP_TMA: return TAMISI_ATTEND_MAP;
    case TAMISI_ATTEND_BLOCKS: return TAMISI_ATTEND_BLOCKS_TMA;
    case TAMISI_ATTEND_BLOCKS_TMA: return TAMISI_ATTEND_BLOCKS;
    case TAMISI_PATTERN_XATTN: return TAMISI_PATTERN_XATTN_TMA;
    case TAMISI_PATTERN_XATTN_TMA: return TAMISI_PATTERN_XATTN;
    default: return stage;
    }
}

static bool is_served(const struct tamisi_gpu_plan *loaded, int stage)
{
    return loaded->kernels[stage].function || loaded->kernels[other_of(stage)].function;
}

/* Stages and families behind those of every plan are for patterns, some of them for some patterns alone; or for output maps. */
static bool needs_stage(const tamis_plan *plan, int stage)
{
    const tamis_pattern_kind kind = plan->pattern.kind;
    if (stage == TAMISI_ATTEND || stage == TAMISI_ATTEND_TMA) return !plan->options.output_map;
    if (stage == TAMISI_ATTEND_MAP || stage == TAMISI_ATTEND_MAP_TMA) return plan->options.output_map;
    if (stage < TAMISI_PATTERN_SLIDING) return stage < TAMISI_BLOCKS_BITS || kind != TAMIS_PATTERN_NONE;
    return tamisi_gpu_pattern_needs(kind, maker_family(stage));
}

static bool needs_family(const tamis_plan *plan, int family)
{
    return family < TAMISI_FAMILY_COUNT || tamisi_gpu_pattern_needs(plan->pattern.kind, tamisi_gpu_families[family]);
}

/* What serves the plan at this place in the families. */
static const char *family_name(const tamis_plan *plan, int family)
{
    return family == TAMISI_FAMILY_ATTEND && plan->options.output_map ? TAMISI_MAP_FAMILY : tamisi_gpu_families[family];
}

static int find_stage(const char *name)
{
    for (int stage = 0; stage < TAMISI_STAGE_COUNT; stage++)
        if (strcmp(stage_names[stage], name) == 0) return stage;
    return -1;
}

/* Look up one kernel of a loaded library, and tell the driver how much shared memory it will ask for. */
static tamis_status load_entry(struct tamisi_gpu_plan *loaded, const struct tamisi_cuda *cuda,
                               const struct tamisi_gpu_library *library, const struct tamisi_entry *entry)
{
    const int stage = find_stage(entry->stage);
    if (stage < 0)
        return tamisi_fail(TAMIS_EUNSUPPORTED, "%s serves a stage that is unknown here: %s", entry->symbol, entry->stage);
    struct tamisi_kernel *kernel = &loaded->kernels[stage];
    tamisi_cu_kernel handle;
    kernel->entry = *entry;
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->library_get_kernel(&handle, library->handle, entry->symbol), entry->symbol));
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->kernel_get_function(&kernel->function, handle), entry->symbol));
    const int unasked = 48 * 1024; /* what any block may have without asking */
    if (entry->shared_bytes > unasked)
        TAMIS_TRY(tamisi_cuda_check(
            cuda, cuda->func_set_attribute(kernel->function, TAMISI_CU_FUNC_MAX_DYNAMIC_SHARED, entry->shared_bytes),
            entry->symbol));
    for (int i = 0; i < library->resource_count; i++)
        if (strcmp(library->resources[i].symbol, entry->symbol) == 0) loaded->resources[stage] = library->resources[i];
    return TAMIS_OK;
}

tamis_status tamisi_gpu_library_get(struct tamisi_gpu_library **out, const tamis_plan *plan, tamis_store *store,
                                    const struct tamisi_variant *variant)
{
    struct tamisi_gpu *gpu = plan->context->state;
    struct tamisi_cubin cubin = {0};
    *out = tamisi_gpu_library_find(gpu, &variant->source);
    if (*out) {
        atomic_fetch_add(&plan->context->counters.found, 1);
        return TAMIS_OK;
    }
    TAMIS_TRY(get_cubin(&cubin, plan, store, variant));
    const tamis_status status = tamisi_gpu_library_load(out, gpu, &variant->source, &cubin, variant->name);
    tamisi_cubin_free(&cubin);
    return status;
}

static tamis_status load_variant(struct tamisi_gpu_plan *loaded, const tamis_plan *plan, tamis_store *store, int family,
                                 const struct tamisi_variant *variant)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    loaded->variants[family] = *variant;
    tamis_status status = tamisi_gpu_library_get(&loaded->libraries[family], plan, store, variant);
    for (int i = 0; i < variant->entry_count && status == TAMIS_OK; i++)
        status = load_entry(loaded, gpu->cuda, loaded->libraries[family], &variant->entries[i]);
    return status;
}

/* Undo what a variant that does not load has left. */
static void unload_variant(struct tamisi_gpu_plan *loaded, const tamis_plan *plan, int family)
{
    const struct tamisi_variant *variant = &loaded->variants[family];
    for (int i = 0; i < variant->entry_count; i++) {
        const int stage = find_stage(variant->entries[i].stage);
        if (stage >= 0) loaded->kernels[stage] = (struct tamisi_kernel){.function = NULL};
    }
    tamisi_gpu_library_release(plan->context->state, loaded->libraries[family]);
    loaded->libraries[family] = NULL;
}

/* May another variant fare better? Not where memory or a file is to blame. */
static bool is_its_own_fault(tamis_status status)
{
    return status == TAMIS_ECUDA || status == TAMIS_ECOMPILE || status == TAMIS_EUNSUPPORTED || status == TAMIS_ENOTFOUND ||
           status == TAMIS_ECORRUPT;
}

static tamis_status load_next(struct tamisi_gpu_plan *loaded, const tamis_plan *plan, tamis_store *store, int family,
                              const struct tamisi_ranking *ranking, size_t at)
{
    unload_variant(loaded, plan, family);
    tamisi_log(&plan->context->log, TAMIS_LOG_WARNING, "%s is passed over: %s", ranking->variants[at - 1].name,
               tamis_last_error());
    atomic_fetch_add(&plan->context->counters.passed_over, 1);
    loaded->choices[family].reason = TAMISI_BY_FALLBACK;
    return load_variant(loaded, plan, store, family, &ranking->variants[at]);
}

/* The first variant of a ranking that loads. Where none does, the best one's failure is told. */
static tamis_status load_first(struct tamisi_gpu_plan *loaded, const tamis_plan *plan, tamis_store *store, int family,
                               const struct tamisi_ranking *ranking)
{
    const tamis_status first = load_variant(loaded, plan, store, family, &ranking->variants[0]);
    if (first == TAMIS_OK || ranking->count == 1 || !is_its_own_fault(first)) return first;
    char *message = strdup(tamis_last_error()), *detail = strdup(tamis_last_error_detail());
    tamis_status status = first;
    for (size_t i = 1; i < ranking->count && is_its_own_fault(status); i++)
        status = load_next(loaded, plan, store, family, ranking, i);
    if (status == TAMIS_OK) tamisi_error_clear();
    if (is_its_own_fault(status)) {
        status = tamisi_fail(first, "%s", message ? message : "no variant loads");
        if (detail) tamisi_error_detail(detail);
    }
    free(message);
    free(detail);
    return status;
}

/* Leave of a ranking the one that the plan is forced to take. */
static tamis_status keep_forced(struct tamisi_ranking *ranking, const struct tamisi_force *force)
{
    for (size_t i = 0; i < ranking->count; i++) {
        if (strcmp(ranking->variants[i].name, force->variant) != 0) continue;
        ranking->variants[0] = ranking->variants[i];
        ranking->count = 1;
        ranking->choice = (struct tamisi_choice){.reason = TAMISI_BY_FORCE, .gain = 1, .regret = -1};
        return TAMIS_OK;
    }
    return tamisi_fail(TAMIS_ENOTFOUND, "no %s kernel is named %s", force->family, force->variant);
}

/* Families come with attention before decompress, which depends on it; but for attention on blocks, which may leave
   decompress nothing to do. */
static bool is_launched(const struct tamisi_gpu_plan *loaded, const tamis_plan *plan, const char *family)
{
    const bool attends = strcmp(family, "attend") == 0 || strcmp(family, "decompress") == 0;
    if (tamisi_family_has_lists(family)) return true;
    if (plan->pattern.kind != TAMIS_PATTERN_NONE && attends) return false;
    return tamisi_gpu_launches(family, &plan->facts, &loaded->variants[TAMISI_FAMILY_ATTEND]);
}

/* Which variant is taken of what is never launched does not matter: no timing is asked for. Nor of `blocks`, small kernels
   of one size that are not tuned. */
static tamis_tuning tuning_of(const struct tamisi_gpu_plan *loaded, const tamis_plan *plan, const char *family)
{
    const tamis_tuning wanted = plan->options.tuning;
    if (strcmp(family, "blocks") == 0) return TAMIS_TUNING_OFF;
    if (wanted == TAMIS_TUNING_REQUIRE && !is_launched(loaded, plan, family)) return TAMIS_TUNING_USE;
    return wanted;
}

static tamis_status load_family(struct tamisi_gpu_plan *loaded, const tamis_plan *plan, tamis_store *store, int family)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const char *name = family_name(plan, family);
    struct tamisi_gpu_identity identity;
    struct tamisi_ranking ranking;
    tamisi_gpu_identify(&identity, gpu);
    TAMIS_TRY(tamisi_gpu_rank(&ranking, store, name, gpu->arch, &plan->problem, &plan->facts, &plan->pattern,
                              tuning_of(loaded, plan, tamisi_gpu_families[family]), &identity));
    tamis_status status = TAMIS_OK;
    if (plan->force.family && strcmp(plan->force.family, name) == 0) status = keep_forced(&ranking, &plan->force);
    loaded->choices[family] = ranking.choice;
    if (status == TAMIS_OK) status = load_first(loaded, plan, store, family, &ranking);
    tamisi_ranking_free(&ranking);
    return status;
}

tamis_status tamisi_gpu_plan_open(tamis_plan *plan, tamis_store *store)
{
    struct tamisi_gpu_plan *loaded = calloc(1, sizeof *loaded);
    if (!loaded) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a plan");
    plan->state = loaded;
    tamis_status status = tamisi_gpu_enter(plan->context);
    if (status == TAMIS_OK) {
        for (int family = 0; family < TAMISI_ALL_FAMILIES && status == TAMIS_OK; family++)
            if (needs_family(plan, family)) status = load_family(loaded, plan, store, family);
        tamisi_gpu_leave(plan->context);
    }
    for (int stage = 0; stage < TAMISI_STAGE_COUNT && status == TAMIS_OK; stage++)
        if (needs_stage(plan, stage) && !is_served(loaded, stage))
            status = tamisi_fail(TAMIS_ECORRUPT, "%s: no kernel serves %s", tamisi_store_path(store), stage_names[stage]);
    if (status == TAMIS_OK) status = tamisi_gpu_attend_check(plan);
    if (status == TAMIS_OK) status = tamisi_gpu_blocks_check(plan);
    if (status != TAMIS_OK) tamisi_gpu_plan_close(plan);
    return status;
}

void tamisi_gpu_plan_close(tamis_plan *plan)
{
    struct tamisi_gpu_plan *loaded = plan->state;
    if (!loaded) return;
    for (int family = 0; family < TAMISI_ALL_FAMILIES; family++)
        tamisi_gpu_library_release(plan->context->state, loaded->libraries[family]);
    free(loaded);
    plan->state = NULL;
}

void tamisi_gpu_describe(const tamis_plan *plan, struct tamisi_buf *out)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const struct tamisi_gpu_plan *loaded = plan->state;
    tamisi_buf_printf(out, "device: %s, compute capability %d.%d, %d SMs, kernels for %s\n", gpu->name, gpu->cc_major,
                      gpu->cc_minor, gpu->sm_count, gpu->arch);
    for (int stage = 0; stage < TAMISI_STAGE_COUNT; stage++) {
        const struct tamisi_entry *entry = &loaded->kernels[stage].entry;
        if (!loaded->kernels[stage].function) continue;
        tamisi_buf_printf(out, "%s: %s, %d threads, %d registers, %d bytes shared\n", stage_names[stage], entry->symbol,
                          entry->threads, loaded->resources[stage].registers,
                          entry->shared_bytes + loaded->resources[stage].shared_bytes);
    }
    for (int family = 0; family < TAMISI_ALL_FAMILIES; family++) {
        if (!needs_family(plan, family)) continue;
        tamisi_buf_printf(out, "variant of %s: %s: ", family_name(plan, family), loaded->variants[family].name);
        tamisi_choice_describe(out, &loaded->choices[family]);
        tamisi_buf_puts(out, "\n");
    }
}
