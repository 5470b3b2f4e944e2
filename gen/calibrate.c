/*
 * calibrate.c: see calibrate.h.
 */
#include "calibrate.h"

#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Dense rows first, by prompt; then those of a setting together, by prompt. */
static int compare_rows(const void *a, const void *b)
{
    const struct quality_row *left = a, *right = b;
    if (left->dense != right->dense) return left->dense ? -1 : 1;
    const int order = strcmp(left->setting, right->setting);
    return order != 0 ? order : quality_case_compare(left, right);
}

static const struct quality_row *find_dense(const struct quality_row *rows, size_t dense, const struct quality_row *row)
{
    size_t low = 0, high = dense;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = quality_case_compare(&rows[middle], row);
        if (order == 0) return &rows[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Of the same task and length. Prompts are sorted by task and haystack first, so these are not always one run. */
static bool same_group(const struct quality_row *a, const struct quality_row *b)
{
    return a->length == b->length && strcmp(a->cases[0], b->cases[0]) == 0;
}

static bool same_length(const struct quality_row *a, const struct quality_row *b) { return a->length == b->length; }

/* Whether a row is the first of its group; `same` says of which. */
static bool is_first(const struct quality_row *from, const struct quality_row *first,
                     bool (*same)(const struct quality_row *, const struct quality_row *))
{
    if (from > first && same(from - 1, from)) return false;
    for (const struct quality_row *row = first; row < from; row++)
        if (same(row, from)) return false;
    return true;
}

/* The mean loss of a row's group, taken at the group's first row. */
static void look_at_group(struct calibrate_setting *setting, const struct quality_row *rows, size_t dense,
                          const struct quality_row *from, const struct quality_row *first, const struct quality_row *end)
{
    double loss = 0;
    int count = 0;
    if (!is_first(from, first, same_group)) return;
    for (const struct quality_row *row = from; row < end; row++) {
        const struct quality_row *plain = same_group(row, from) ? find_dense(rows, dense, row) : NULL;
        if (!plain) continue;
        loss += plain->accuracy - row->accuracy;
        count++;
    }
    if (count == 0 || loss / count <= setting->worst) return;
    setting->worst = loss / count;
    setting->worst_row = from;
}

/* The speed at a row's length, taken at the first row of that length. */
static void look_at_length(struct calibrate_setting *setting, const struct quality_row *rows, size_t dense,
                           const struct quality_row *from, const struct quality_row *first, const struct quality_row *end)
{
    double dense_ms = 0, own_ms = 0;
    if (!is_first(from, first, same_length)) return;
    for (const struct quality_row *row = from; row < end; row++) {
        const struct quality_row *plain = same_length(row, from) ? find_dense(rows, dense, row) : NULL;
        if (!plain) continue;
        dense_ms += plain->prefill_ms;
        own_ms += row->prefill_ms;
    }
    if (!(own_ms > 0) || dense_ms / own_ms >= setting->slowest) return;
    setting->slowest = dense_ms / own_ms;
    setting->slowest_length = from->length;
}

/* Rows from `first` to before `end`, all of one setting. */
static void measure(struct calibrate_setting *out, const struct quality_row *rows, size_t dense,
                    const struct quality_row *first, const struct quality_row *end)
{
    double squares = 0, dense_ms = 0, own_ms = 0;
    *out = (struct calibrate_setting){.row = first, .worst = -HUGE_VAL, .worst_row = first, .slowest = HUGE_VAL};
    for (const struct quality_row *row = first; row < end; row++) {
        const struct quality_row *plain = find_dense(rows, dense, row);
        if (!plain) continue;
        const double loss = plain->accuracy - row->accuracy;
        out->prompts++;
        out->accuracy += row->accuracy;
        out->dense += plain->accuracy;
        squares += loss * loss;
        dense_ms += plain->prefill_ms;
        own_ms += row->prefill_ms;
        look_at_group(out, rows, dense, row, first, end);
        look_at_length(out, rows, dense, row, first, end);
    }
    if (!out->slowest_length) out->slowest = 0;
    if (out->prompts == 0) return;
    out->accuracy /= out->prompts;
    out->dense /= out->prompts;
    out->loss = out->dense - out->accuracy;
    const double variance = squares / out->prompts - out->loss * out->loss;
    out->error = out->prompts > 1 && variance > 0 ? sqrt(variance / (out->prompts - 1)) : 0;
    out->speed = own_ms > 0 ? dense_ms / own_ms : 0;
}

static size_t keep_length(struct quality_row *rows, size_t count, long long length)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (length == 0 || rows[i].length == length) rows[kept++] = rows[i];
    return kept;
}

static const struct quality_row *later(const struct quality_row *a, const struct quality_row *b)
{
    return a->line > b->line ? a : b;
}

/* What makes rows no comparison; they are sorted. */
static tamis_status check(const char *name, const struct quality_row *rows, size_t count, size_t dense, long long length)
{
    if (dense == 0 && length > 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: has no dense prompts of length %lld to compare with, another would be right",
                           name, length);
    if (dense == 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: has no dense prompts to compare with: run the setting dense too", name);
    for (size_t i = 1; i < count; i++) {
        const struct quality_row *one = &rows[i - 1], *next = &rows[i];
        if (compare_rows(one, next) == 0)
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: the prompt of line %d a second time", name, later(one, next)->line,
                               later(one, next) == next ? one->line : next->line);
        const bool same = strcmp(one->setting, next->setting) == 0;
        if (one->dense && next->dense && !same)
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: a second dense setting, beside that of line %d", name, next->line,
                               one->line);
        if (same && (strcmp(one->sparse_layers, next->sparse_layers) != 0 || strcmp(one->amount, next->amount) != 0))
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: has other layers or tokens than line %d of the same setting", name,
                               next->line, one->line);
        if (next->layers != one->layers)
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: a model of %d layers, in line %d it has %d", name, next->line,
                               next->layers, one->line, one->layers);
    }
    return TAMIS_OK;
}

static int faster_first(const void *a, const void *b)
{
    const struct calibrate_setting *left = a, *right = b;
    if (left->speed != right->speed) return left->speed > right->speed ? -1 : 1;
    if (left->loss != right->loss) return left->loss < right->loss ? -1 : 1;
    return strcmp(left->row->setting, right->row->setting);
}

tamis_status calibrate_measure(struct calibrate_result *out, const char *name, struct quality_row *rows, size_t count,
                               long long length)
{
    size_t dense = 0;
    *out = (struct calibrate_result){.settings = NULL};
    count = keep_length(rows, count, length);
    if (count > 1) qsort(rows, count, sizeof *rows, compare_rows);
    while (dense < count && rows[dense].dense) dense++;
    TAMIS_TRY(check(name, rows, count, dense, length));
    out->prompts = (int)dense;
    out->settings = calloc(count, sizeof *out->settings); /* at most one a row */
    if (!out->settings) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu settings", count);
    for (size_t first = dense, end; first < count; first = end) {
        end = first + 1;
        while (end < count && strcmp(rows[end].setting, rows[first].setting) == 0) end++;
        measure(&out->settings[out->count++], rows, dense, rows + first, rows + end);
    }
    if (out->count > 1) qsort(out->settings, out->count, sizeof *out->settings, faster_first);
    return TAMIS_OK;
}

void calibrate_free(struct calibrate_result *result)
{
    free(result->settings);
    *result = (struct calibrate_result){.settings = NULL};
}

bool calibrate_holds(const struct calibrate_result *result, const struct calibrate_setting *setting, double bound, bool each)
{
    const double slack = 1e-9; /* of sums of decimal fractions */
    return setting->prompts == result->prompts && (each ? setting->worst : setting->loss) <= bound + slack;
}

bool calibrate_pays(const struct calibrate_setting *setting) { return setting->speed > 1; }

bool calibrate_alike(const tamis_selection *a, const tamis_selection *b)
{
    return a->scope == b->scope && a->window == b->window && a->pool == b->pool && a->min_tokens == b->min_tokens;
}

const struct calibrate_setting *calibrate_choose(const struct calibrate_result *result, double bound, bool each,
                                                 const tamis_selection *like)
{
    for (size_t i = 0; i < result->count; i++) {
        const struct calibrate_setting *setting = &result->settings[i];
        if (like && !calibrate_alike(&setting->row->selection, like)) continue;
        if (calibrate_holds(result, setting, bound, each) && calibrate_pays(setting)) return setting;
    }
    return NULL;
}
