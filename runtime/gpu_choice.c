/*
 * gpu_choice.c: a family's variants for a plan, ordered by what was timed. The order itself is choice.c's, rows are the
 * store's; gpu_plan.c loads the first of them that loads. Layer: below gpu_plan.c.
 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tamisi_gpu_families[TAMISI_ALL_FAMILIES] = {"score", "select", "compress", "attend", "decompress",
                                                              "blocks", "attend_blocks", "pattern", "pattern_lines",
                                                              "pattern_heads", "pattern_xattn"};

/* How much is kept by coverage is known on the device alone. The published figures are about this part of the tokens. */
#define COVERAGE_KEEPS 0.75
/* The same of listed blocks, where the data or the host decides: of structured inputs of 128K tokens the published patterns
   list 5 to 9 %. */
#define DATA_LISTS 0.1
#define FARTHEST 1.0 /* TAMIS_TUNING_REQUIRE takes no timing from farther away, in octaves of length */

void tamisi_gpu_identify(struct tamisi_gpu_identity *out, const struct tamisi_gpu *gpu)
{
    *out = (struct tamisi_gpu_identity){.cc = 10 * gpu->cc_major + gpu->cc_minor,
                                        .sm_count = gpu->sm_count,
                                        .l2_bytes = gpu->l2_bytes,
                                        .driver_major = gpu->cuda->version / 1000};
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, gpu->name);
}

void tamisi_ranking_free(struct tamisi_ranking *ranking)
{
    free(ranking->variants);
    *ranking = (struct tamisi_ranking){.variants = NULL};
}

/* Variants that this library can launch, by rank; the same kernel of two specs once. */
static tamis_status find_usable(struct tamisi_ranking *out, tamis_store *store, const char *family, const char *arch,
                                const tamis_problem *problem)
{
    const struct tamisi_variant_query query = {
        .family = family, .arch = arch, .dtype = (int)problem->dtype, .head_dim = problem->head_dim};
    size_t count = 0;
    int abi = 0;
    TAMIS_TRY(tamisi_store_find_variants(&out->variants, &count, store, &query));
    for (size_t i = 0; i < count; i++) {
        const struct tamisi_variant variant = out->variants[i];
        bool usable = variant.abi == tamisi_family_abi(family);
        if (i == 0) abi = variant.abi;
        for (size_t j = 0; j < out->count && usable; j++)
            usable = !tamisi_hash_equal(&out->variants[j].source, &variant.source);
        if (usable) out->variants[out->count++] = variant;
    }
    if (out->count > 0) return TAMIS_OK;
    if (count > 0)
        return tamisi_fail(TAMIS_EUNSUPPORTED, "%s: its %s kernels are for another libtamis (interface %d, this one has %d): "
                                               "run tamis gen again",
                           tamisi_store_path(store), family, abi, tamisi_family_abi(family));
    if (strcmp(family, TAMISI_MAP_FAMILY) == 0)
        return tamisi_fail(TAMIS_EUNSUPPORTED, "%s: no attention kernel with an output map for head_dim %d, %s, %s: run tamis "
                                               "gen on a spec with output_map: true",
                           tamisi_store_path(store), problem->head_dim, problem->dtype == TAMIS_BF16 ? "bf16" : "fp16", arch);
    return tamisi_fail(TAMIS_EUNSUPPORTED, "%s: no %s kernel for head_dim %d, %s, %s: run tamis gen with --arch %s%s",
                       tamisi_store_path(store), family, problem->head_dim, problem->dtype == TAMIS_BF16 ? "bf16" : "fp16",
                       arch, arch, tamisi_family_has_blocks(family) ? " on a spec whose tiles have tiles/pattern.yaml"
                                                                : " on a spec of that head_dim and dtype");
}

static void make_bucket(struct tamisi_bucket *out, const char *family, const tamis_problem *problem,
                        const struct tamisi_facts *facts, const tamis_pattern *pattern)
{
    const long long assumed = (long long)(COVERAGE_KEEPS * (double)facts->candidates) + problem->selection.window;
    const long long kept = facts->fixed_keep < 0 ? assumed : facts->capacity;
    if (!tamisi_family_has_lists(family)) {
        tamisi_bucket_make(out, family, problem, kept, facts->dense);
        return;
    }
    const double density = tamisi_pattern_density(pattern, tamisi_pattern_tiles(facts));
    tamisi_bucket_make_lists(out, family, problem, kept, facts->dense, pattern, density > 0 ? density : DATA_LISTS);
}

/* ---- whose timings count. An output map costs all of attend's tiles about the same, and is not timed: of two variants that
   differ in it alone the one without has the timings for both. */

static const char *timed_family(const char *family) { return strcmp(family, TAMISI_MAP_FAMILY) == 0 ? "attend" : family; }

/* Are the parameters the same but for the one that only `mapped` has? */
static bool is_twin(const char *mapped, const char *plain)
{
    static const char own[] = "output_map=1 "; /* in the order of names others follow */
    const char *at = strstr(mapped, own);
    if (!at || strncmp(mapped, plain, (size_t)(at - mapped)) != 0) return false;
    return strcmp(at + strlen(own), plain + (at - mapped)) == 0;
}

/* The sources that timings are looked up by, in the variants' places; where a twin is missing, the variant's own. */
static tamis_status find_timed(struct tamisi_option *options, const struct tamisi_ranking *ranking, tamis_store *store,
                               const char *family, const char *arch, const tamis_problem *problem)
{
    const struct tamisi_variant_query query = {
        .family = timed_family(family), .arch = arch, .dtype = (int)problem->dtype, .head_dim = problem->head_dim};
    struct tamisi_variant *twins = NULL;
    size_t count = 0;
    for (size_t i = 0; i < ranking->count; i++) options[i].source = ranking->variants[i].source;
    if (query.family == family) return TAMIS_OK;
    TAMIS_TRY(tamisi_store_find_variants(&twins, &count, store, &query));
    for (size_t i = 0; i < ranking->count; i++)
        for (size_t j = 0; j < count; j++)
            if (is_twin(ranking->variants[i].params, twins[j].params)) options[i].source = twins[j].source;
    free(twins);
    return TAMIS_OK;
}

/* Put the variants into the order that the timings give. `options`: by which sources. */
static tamis_status order_variants(struct tamisi_ranking *ranking, const struct tamisi_option *options,
                                   const struct tamisi_timing *timings, size_t timing_count,
                                   const struct tamisi_bucket *bucket, const struct tamisi_gpu_identity *gpu)
{
    const size_t count = ranking->count;
    size_t *order = calloc(count, sizeof *order);
    struct tamisi_variant *ordered = calloc(count, sizeof *ordered);
    const bool enough = order && ordered;
    if (enough) tamisi_choose(&ranking->choice, order, options, count, timings, timing_count, bucket, gpu);
    for (size_t i = 0; i < count && enough; i++) ordered[i] = ranking->variants[order[i]];
    free(order);
    if (!enough) {
        free(ordered);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory for a plan");
    }
    free(ranking->variants);
    ranking->variants = ordered;
    return TAMIS_OK;
}

static tamis_status require_timing(tamis_store *store, const char *family, const tamis_problem *problem,
                                   const struct tamisi_choice *choice)
{
    const bool near = choice->reason == TAMISI_BY_BUCKET ||
                      (choice->reason == TAMISI_BY_NEAREST && choice->distance <= FARTHEST);
    if (near) return TAMIS_OK;
    return tamisi_fail(TAMIS_ENOTFOUND, "%s: no %s kernel was timed on this GPU for a seq_len near %lld: run tamis tune",
                       tamisi_store_path(store), family, (long long)problem->seq_len);
}

static tamis_status rank(struct tamisi_ranking *out, tamis_store *store, const char *family, const char *arch,
                         const tamis_problem *problem, const struct tamisi_facts *facts, const tamis_pattern *pattern,
                         tamis_tuning tuning, const struct tamisi_gpu_identity *gpu)
{
    struct tamisi_timing *timings = NULL;
    struct tamisi_bucket bucket;
    size_t count = 0;
    TAMIS_TRY(find_usable(out, store, family, arch, problem));
    if (tuning == TAMIS_TUNING_OFF) return TAMIS_OK;
    const char *timed = timed_family(family);
    TAMIS_TRY(tamisi_store_find_timings(&timings, &count, store, timed, arch, problem->head_dim, gpu->cc));
    struct tamisi_option *options = calloc(out->count, sizeof *options);
    tamis_status status = options ? find_timed(options, out, store, family, arch, problem)
                                  : tamisi_fail(TAMIS_ENOMEM, "out of memory for a plan");
    make_bucket(&bucket, timed, problem, facts, pattern);
    if (status == TAMIS_OK) status = order_variants(out, options, timings, count, &bucket, gpu);
    free(options);
    free(timings);
    if (status == TAMIS_OK && tuning == TAMIS_TUNING_REQUIRE) status = require_timing(store, timed, problem, &out->choice);
    return status;
}

tamis_status tamisi_gpu_rank(struct tamisi_ranking *out, tamis_store *store, const char *family, const char *arch,
                             const tamis_problem *problem, const struct tamisi_facts *facts, const tamis_pattern *pattern,
                             tamis_tuning tuning, const struct tamisi_gpu_identity *gpu)
{
    *out = (struct tamisi_ranking){.choice = {.reason = TAMISI_BY_DEFAULT, .gain = 1, .regret = -1}};
    const tamis_status status = rank(out, store, family, arch, problem, facts, pattern, tuning, gpu);
    if (status != TAMIS_OK) tamisi_ranking_free(out);
    return status;
}

void tamisi_choice_describe(struct tamisi_buf *out, const struct tamisi_choice *choice)
{
    const bool other = choice->reason == TAMISI_BY_NEAREST || choice->reason == TAMISI_BY_OTHER_GPU;
    tamisi_buf_puts(out, tamisi_reason_text(choice->reason));
    if (other) tamisi_buf_printf(out, " (seq_len %lld", (long long)choice->bucket.seq_len);
    if (other && choice->bucket.pattern == TAMIS_PATTERN_HOST_BLOCKS)
        tamisi_buf_printf(out, ", density %g", choice->bucket.detail / 1000.0);
    else if (other && choice->bucket.kept > 0 && choice->bucket.pattern == TAMIS_PATTERN_NONE)
        tamisi_buf_printf(out, ", kept %lld", (long long)choice->bucket.kept);
    if (other) tamisi_buf_puts(out, ")");
    if (choice->gain > 1) tamisi_buf_printf(out, "; %.3f times as fast as the default", choice->gain);
    if (other && choice->regret >= 0)
        tamisi_buf_printf(out, "; loses at most %.1f %% in the shapes beside it", 100 * choice->regret);
}
