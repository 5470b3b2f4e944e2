/*
 * report_data.c: see report.h. Rows come from the store; what was chosen is choice.c's word.
 */
#include "report.h"

#include "error.h"
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 90 of "sm_90a". */
static int cc_of(const char *arch) { return (int)strtol(arch + strcspn(arch, "0123456789"), NULL, 10); }

static int family_of(const char *name)
{
    int family = 0;
    while (family < TAMISI_ALL_FAMILIES - 1 && strcmp(tamisi_gpu_families[family], name) != 0) family++;
    return family;
}

static tamis_status add_gpu(struct tamisi_gpu_identity **gpus, size_t *count, const struct tamisi_gpu_identity *gpu)
{
    for (size_t i = 0; i < *count; i++)
        if (tamisi_gpu_equal(&(*gpus)[i], gpu)) return TAMIS_OK;
    struct tamisi_gpu_identity *grown = realloc(*gpus, (*count + 1) * sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the report");
    *gpus = grown;
    grown[(*count)++] = *gpu;
    return TAMIS_OK;
}

static tamis_status family_timings(struct tamisi_timing **out, size_t *count, tamis_store *store, int family, const char *arch,
                                   int head_dim)
{
    return tamisi_store_find_timings(out, count, store, tamisi_gpu_families[family], arch, head_dim, cc_of(arch));
}

tamis_status report_gpus(struct tamisi_gpu_identity **out, size_t *count, tamis_store *store, const char *spec,
                         const char *arch)
{
    struct tamisi_spec_row row;
    *out = NULL;
    *count = 0;
    TAMIS_TRY(tamisi_store_get_spec(&row, store, spec));
    const int head_dim = row.problem.head_dim;
    tamisi_spec_row_free(&row);
    tamis_status status = TAMIS_OK;
    for (int family = 0; family < TAMISI_ALL_FAMILIES && status == TAMIS_OK; family++) {
        struct tamisi_timing *timings = NULL;
        size_t found = 0;
        status = family_timings(&timings, &found, store, family, arch, head_dim);
        for (size_t i = 0; i < found && status == TAMIS_OK; i++)
            if (timings[i].state == TAMISI_TIMED) status = add_gpu(out, count, &timings[i].gpu);
        free(timings);
    }
    if (status != TAMIS_OK) free(*out);
    return status;
}

/* ---- rows */

static const struct tamisi_variant *variant_of(const struct report *report, const struct tamisi_timing *timing)
{
    for (size_t i = 0; i < report->variant_count; i++)
        if (tamisi_hash_equal(&report->variants[i].source, &timing->source) &&
            strcmp(report->variants[i].family, timing->family) == 0)
            return &report->variants[i];
    return NULL;
}

/* Is a bucket one that the spec's problems have? */
static bool is_of_spec(const struct report *report, const struct tamisi_timing *timing)
{
    const struct tamisi_bucket *bucket = &timing->bucket;
    tamis_problem problem = report->problem;
    struct tamisi_bucket expected = *bucket;
    problem.seq_len = bucket->seq_len;
    problem.batch = bucket->batch;
    if (tamisi_family_has_lists(timing->family)) {
        expected.dtype = (int)problem.dtype;
        expected.q_heads = problem.q_heads;
        expected.kv_heads = problem.kv_heads;
    } else {
        tamisi_bucket_make(&expected, timing->family, &problem, bucket->kept, bucket->dense);
    }
    return tamisi_bucket_equal(&expected, bucket);
}

static tamis_status add_family(struct report *report, tamis_store *store, int family)
{
    struct tamisi_timing *timings = NULL;
    size_t found = 0;
    TAMIS_TRY(family_timings(&timings, &found, store, family, report->arch, report->problem.head_dim));
    struct tamisi_timing *grown = realloc(report->timings, (report->timing_count + found + 1) * sizeof *grown);
    if (grown) report->timings = grown;
    for (size_t i = 0; i < found && grown; i++)
        if (timings[i].state != TAMISI_STARTED && tamisi_gpu_equal(&timings[i].gpu, &report->gpu) &&
            is_of_spec(report, &timings[i]) && variant_of(report, &timings[i]))
            grown[report->timing_count++] = timings[i];
    free(timings);
    return grown ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for the report");
}

static int compare_numbers(int64_t a, int64_t b) { return (a > b) - (a < b); }

static int compare_buckets(const struct tamisi_timing *a, const struct tamisi_timing *b)
{
    int order = compare_numbers(family_of(a->family), family_of(b->family));
    if (!order) order = compare_numbers(a->bucket.seq_len, b->bucket.seq_len);
    if (!order) order = compare_numbers(b->bucket.dense, a->bucket.dense);
    if (!order) order = compare_numbers(b->bucket.kept, a->bucket.kept);
    if (!order) order = compare_numbers(a->bucket.batch, b->bucket.batch);
    if (!order) order = compare_numbers(a->bucket.q_heads, b->bucket.q_heads);
    if (!order) order = compare_numbers(a->bucket.pattern, b->bucket.pattern);
    if (!order) order = compare_numbers(b->bucket.detail, a->bucket.detail);
    if (!order) order = compare_numbers(a->bucket.scope, b->bucket.scope);
    return order ? order : compare_numbers(a->bucket.window, b->bucket.window);
}

static int compare_timings(const void *a, const void *b)
{
    const int order = compare_buckets(a, b);
    return order ? order : strcmp(((const struct tamisi_timing *)a)->variant, ((const struct tamisi_timing *)b)->variant);
}

/* ---- buckets */

static tamis_status judge_bucket(struct report *report, struct report_bucket *bucket)
{
    struct tamisi_option *options = calloc(report->variant_count + 1, sizeof *options);
    size_t *order = calloc(report->variant_count + 1, sizeof *order), count = 0;
    struct tamisi_choice choice;
    if (!options || !order) {
        free(options);
        free(order);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory for the report");
    }
    for (size_t i = 0; i < report->variant_count; i++)
        if (strcmp(report->variants[i].family, bucket->family) == 0) options[count++].source = report->variants[i].source;
    tamisi_choose(&choice, order, options, count, bucket->timings, bucket->count, &bucket->bucket, &report->gpu);
    for (size_t i = 0; i < bucket->count && choice.timed > 0; i++) {
        const struct tamisi_timing *timing = &bucket->timings[i];
        if (timing->state != TAMISI_TIMED) continue;
        if (tamisi_hash_equal(&timing->source, &options[0].source)) bucket->default_us = timing->median_us;
        if (!tamisi_hash_equal(&timing->source, &options[order[0]].source)) continue;
        bucket->best_us = timing->median_us;
        memcpy(bucket->chosen, timing->variant, sizeof bucket->chosen);
    }
    free(options);
    free(order);
    return TAMIS_OK;
}

static tamis_status make_buckets(struct report *report)
{
    report->buckets = calloc(report->timing_count + 1, sizeof *report->buckets);
    if (!report->buckets) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the report");
    for (size_t i = 0; i < report->timing_count; i++) {
        struct tamisi_timing *timing = &report->timings[i];
        if (i == 0 || compare_buckets(timing - 1, timing) != 0)
            report->buckets[report->bucket_count++] = (struct report_bucket){
                .family = tamisi_gpu_families[family_of(timing->family)], .bucket = timing->bucket, .timings = timing};
        report->buckets[report->bucket_count - 1].count++;
        if (report->first == 0 || timing->when < report->first) report->first = timing->when;
        if (timing->when > report->last) report->last = timing->when;
    }
    for (size_t i = 0; i < report->bucket_count; i++) TAMIS_TRY(judge_bucket(report, &report->buckets[i]));
    return TAMIS_OK;
}

/* ---- all */

static tamis_status fill(struct report *report, tamis_store *store)
{
    struct tamisi_spec_row row;
    TAMIS_TRY(tamisi_store_get_spec(&row, store, report->spec));
    const tamis_dtype dtype = report->problem.dtype;
    report->problem = row.problem;
    report->problem.dtype = dtype;
    tamisi_spec_row_free(&row);
    const struct tamisi_variant_query query = {.spec = report->spec,
                                               .arch = report->arch,
                                               .dtype = (int)dtype,
                                               .head_dim = report->problem.head_dim};
    TAMIS_TRY(tamisi_store_find_variants(&report->variants, &report->variant_count, store, &query));
    for (int family = 0; family < TAMISI_ALL_FAMILIES; family++) TAMIS_TRY(add_family(report, store, family));
    if (report->timing_count > 1) qsort(report->timings, report->timing_count, sizeof *report->timings, compare_timings);
    return make_buckets(report);
}

tamis_status report_make(struct report *out, tamis_store *store, const char *spec, const char *arch, tamis_dtype dtype,
                         const struct tamisi_gpu_identity *gpu)
{
    *out = (struct report){.gpu = *gpu, .problem.dtype = dtype};
    snprintf(out->spec, sizeof out->spec, "%s", spec);
    snprintf(out->arch, sizeof out->arch, "%s", arch);
    const tamis_status status = fill(out, store);
    if (status != TAMIS_OK) report_free(out);
    return status;
}

bool report_has_dtype(const struct report *report)
{
    for (size_t i = 0; i < report->timing_count; i++)
        if (variant_of(report, &report->timings[i])->dtype == (int)report->problem.dtype) return true;
    return false;
}

void report_free(struct report *report)
{
    free(report->variants);
    free(report->timings);
    free(report->buckets);
    *report = (struct report){.variants = NULL};
}

void report_name_lists(char out[32], const struct tamisi_bucket *bucket)
{
    out[0] = '\0';
    if (bucket->pattern == TAMIS_PATTERN_HOST_BLOCKS)
        snprintf(out, 32, "%g listed", bucket->detail / 1000.0);
    else if (bucket->pattern != TAMIS_PATTERN_NONE)
        snprintf(out, 32, "%s", tamisi_pattern_name((tamis_pattern_kind)bucket->pattern));
}

const struct report_bucket *report_find(const struct report *report, const char *family, int64_t seq_len, int64_t kept,
                                        bool dense)
{
    for (size_t i = 0; i < report->bucket_count; i++) {
        const struct report_bucket *bucket = &report->buckets[i];
        if (strcmp(bucket->family, family) == 0 && bucket->bucket.seq_len == seq_len && bucket->bucket.dense == dense &&
            (kept == 0 || bucket->bucket.kept == kept))
            return bucket;
    }
    return NULL;
}
