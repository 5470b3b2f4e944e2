/*
 * tune_space.c: see tune.h. Pure.
 */
#include "tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t tune_whole_space(enum tamisi_rigor rigor)
{
    return rigor == TAMISI_QUICK ? 12 : rigor == TAMISI_NORMAL ? 32 : (size_t)-1;
}

size_t tune_sample(size_t *out, size_t most, size_t count)
{
    const size_t taken = count < most ? count : most;
    for (size_t i = 0; i < taken; i++) out[i] = i * count / taken;
    return taken;
}

/* The next "name=value" of a list; false at its end or where it is no such thing. */
static bool next_param(const char **at, char name[32], long *value)
{
    const size_t bytes = strcspn(*at, "=");
    if (bytes == 0 || bytes >= 32 || (*at)[bytes] != '=') return false;
    memcpy(name, *at, bytes);
    name[bytes] = '\0';
    char *end;
    *value = strtol(*at + bytes + 1, &end, 10);
    *at = end + (*end == ' ');
    return true;
}

/* Which parameter alone tells a from b, and its values; false: none or several do, or they are of different templates. */
static bool only_difference(const struct tamisi_variant *a, const struct tamisi_variant *b, char name[32], long *of_a,
                            long *of_b)
{
    const char *at_a = a->params, *at_b = b->params;
    char name_a[32], name_b[32];
    long value_a, value_b;
    int differences = 0;
    while (*at_a && *at_b) {
        if (!next_param(&at_a, name_a, &value_a) || !next_param(&at_b, name_b, &value_b) || strcmp(name_a, name_b) != 0)
            return false;
        if (value_a == value_b) continue;
        differences++;
        memcpy(name, name_a, sizeof name_a);
        *of_a = value_a;
        *of_b = value_b;
    }
    return !*at_a && !*at_b && differences == 1;
}

bool tune_beside(const struct tamisi_variant *candidates, size_t count, size_t a, size_t b)
{
    char name[32], other_name[32];
    long from, to, same, between;
    if (!only_difference(&candidates[a], &candidates[b], name, &from, &to)) return false;
    for (size_t i = 0; i < count; i++)
        if (i != a && i != b && only_difference(&candidates[a], &candidates[i], other_name, &same, &between) &&
            strcmp(name, other_name) == 0 && (from < to ? between > from && between < to : between < from && between > to))
            return false;
    return true;
}

static bool was_timed(const struct tamisi_timing *row, const struct tamisi_gpu_identity *gpu)
{
    return (row->state == TAMISI_TIMED || row->state == TAMISI_STOPPED) && row->median_us > 0 &&
           tamisi_gpu_equal(&row->gpu, gpu);
}

/* The least time in a bucket; 0: there is none. */
static double best_in(const struct tamisi_timing *rows, size_t count, const struct tamisi_timing *like)
{
    double best = 0;
    for (size_t i = 0; i < count; i++)
        if (was_timed(&rows[i], &like->gpu) && strcmp(rows[i].family, like->family) == 0 &&
            tamisi_bucket_equal(&rows[i].bucket, &like->bucket) && (best <= 0 || rows[i].median_us < best))
            best = rows[i].median_us;
    return best;
}

double tune_behind(const struct tamisi_timing *rows, size_t count, const struct tamisi_timing *wanted)
{
    double behind = 1, least = 0;
    for (size_t i = 0; i < count; i++) {
        const struct tamisi_timing *row = &rows[i];
        const double distance = tamisi_bucket_distance(&row->bucket, &wanted->bucket);
        if (distance < 0 || row->bucket.seq_len >= wanted->bucket.seq_len || !was_timed(row, &wanted->gpu) ||
            strcmp(row->family, wanted->family) != 0 || !tamisi_hash_equal(&row->source, &wanted->source))
            continue;
        const double best = best_in(rows, count, row);
        if (best < TUNE_LONG_US || (least > 0 && distance >= least)) continue;
        behind = row->median_us / best;
        least = distance;
    }
    return behind;
}

bool tune_reports_loss(char why[TUNE_WHY], const struct tamisi_resource *resources, int count)
{
    for (int i = 0; i < count; i++) {
        const struct tamisi_resource *resource = &resources[i];
        const int spilled = resource->spill_stores + resource->spill_loads;
        if (spilled > 0) snprintf(why, TUNE_WHY, "%.90s spills %d bytes a thread", resource->symbol, spilled);
        else if (resource->serialized_wgmma) snprintf(why, TUNE_WHY, "wgmma of %.90s is serialised", resource->symbol);
        else continue;
        return true;
    }
    return false;
}
