/*
 * bench_check.c: is what is about to be timed the right answer? A few heads are read back whole and looked through for NaN;
 * of each some rows are computed again in double precision, from the very data that is on the device.
 */
#include "bench.h"

#include "equal.h"
#include "error.h"
#include "half.h"

#include <math.h>
#include <stdlib.h>

#define HEADS 3
#define ROWS 8 /* of a head; the last one among them */
#define SPARING_ROWS 4

/* One head on the host. */
struct head {
    uint16_t *q, *k, *v, *output;
    double *row, *scratch;
};

static void head_free(struct head *head)
{
    free(head->q);
    free(head->k);
    free(head->v);
    free(head->output);
    free(head->row);
    free(head->scratch);
}

static tamis_status head_alloc(struct head *out, long long rows, int head_dim)
{
    const size_t bytes = (size_t)rows * (size_t)head_dim * sizeof *out->q;
    *out = (struct head){malloc(bytes), malloc(bytes), malloc(bytes), malloc(bytes),
                         malloc((size_t)head_dim * sizeof(double)), malloc((size_t)rows * sizeof(double))};
    if (out->q && out->k && out->v && out->output && out->row && out->scratch) return TAMIS_OK;
    head_free(out);
    return tamisi_fail(TAMIS_ENOMEM, "out of memory for a head of %lld rows", rows);
}

static tamis_status head_read(struct bench *bench, struct head *out, const tamis_problem *problem,
                              const struct bench_arrays *arrays, int head)
{
    const size_t count = (size_t)arrays->rows * (size_t)problem->head_dim, bytes = count * sizeof *out->q;
    const int kv_head = head / (problem->q_heads / arrays->kv_heads);
    const size_t at = ((size_t)arrays->sequence * (size_t)problem->q_heads + (size_t)head) * count;
    const size_t kv_at = ((size_t)arrays->sequence * (size_t)arrays->kv_heads + (size_t)kv_head) * count;
    TAMIS_TRY(tamis_memory_read(bench->context, out->q, (const uint16_t *)arrays->q + at, bytes, bench->stream));
    TAMIS_TRY(tamis_memory_read(bench->context, out->k, (const uint16_t *)arrays->k + kv_at, bytes, bench->stream));
    TAMIS_TRY(tamis_memory_read(bench->context, out->v, (const uint16_t *)arrays->v + kv_at, bytes, bench->stream));
    return tamis_memory_read(bench->context, out->output, (const uint16_t *)arrays->output + at, bytes, bench->stream);
}

static bool has_nan(const struct head *head, long long rows, const tamis_problem *problem)
{
    for (size_t i = 0; i < (size_t)rows * (size_t)problem->head_dim; i++)
        if (isnan(tamisi_half_to_float(head->output[i], problem->dtype))) return true;
    return false;
}

static bool is_zero(const uint16_t *row, int head_dim)
{
    for (int d = 0; d < head_dim; d++)
        if (row[d] != 0) return false;
    return true;
}

/* Positions ascend and end with the window; all other rows are zero. */
static bool is_sound(const struct head *head, const struct bench_arrays *arrays, const tamis_problem *problem,
                     const int32_t *list)
{
    long long at = 0;
    for (long long row = 0; row < arrays->rows; row++) {
        if (at < arrays->kept && list[at] == row)
            at++;
        else if (row >= arrays->rows - problem->selection.window ||
                 !is_zero(head->output + row * problem->head_dim, problem->head_dim))
            return false;
    }
    return at == arrays->kept;
}

/* One row of each of as many stretches of equal length. `list` NULL: every row attends. */
static double head_error(struct bench *bench, struct head *head, const struct bench_arrays *arrays,
                         const tamis_problem *problem, const int32_t *list)
{
    const long long rows = list ? arrays->kept : arrays->rows, most = bench->sparing ? SPARING_ROWS : ROWS;
    const long long samples = rows < most ? rows : most;
    double difference = 0, reference = 0;
    if (has_nan(head, arrays->rows, problem)) return NAN;
    if (list && !is_sound(head, arrays, problem, list)) return INFINITY;
    for (long long s = 0; s < samples; s++) {
        const long long first = s * rows / samples, end = (s + 1) * rows / samples;
        const unsigned long long step = bench_random(&bench->random) % (unsigned long long)(end - first);
        const long long i = s + 1 == samples ? rows - 1 : first + (long long)step;
        const uint16_t *output = head->output + (list ? list[i] : i) * problem->head_dim;
        equal_attend_row(head->row, problem, head->q, head->k, head->v, list, i, head->scratch);
        for (int d = 0; d < problem->head_dim; d++) {
            const double found = (double)tamisi_half_to_float(output[d], problem->dtype);
            difference += (found - head->row[d]) * (found - head->row[d]);
            reference += head->row[d] * head->row[d];
        }
    }
    return sqrt(difference / reference);
}

tamis_status bench_check(struct bench *bench, struct bench_figure *figure, const tamis_problem *problem,
                         const struct bench_arrays *arrays)
{
    const int heads[HEADS] = {0, problem->q_heads / 2, problem->q_heads - 1};
    struct head head;
    tamis_status status = head_alloc(&head, arrays->rows, problem->head_dim);
    if (status != TAMIS_OK) return status;
    figure->error = 0;
    figure->error_limit = problem->dtype == TAMIS_FP16 ? 1e-3 : 4e-3;
    for (int i = 0; i < HEADS && status == TAMIS_OK; i++) {
        if ((i > 0 && heads[i] == heads[i - 1]) || (i == 1 && bench->sparing)) continue;
        status = head_read(bench, &head, problem, arrays, heads[i]);
        if (status != TAMIS_OK) break;
        const int index_head = arrays->lists ? heads[i] / (problem->q_heads / arrays->index_heads) : 0;
        const int32_t *list = arrays->lists ? arrays->lists + index_head * arrays->capacity : NULL;
        const double error = head_error(bench, &head, arrays, problem, list);
        if (!(error <= figure->error)) figure->error = error;
        if (isnan(error)) break;
    }
    figure->right = figure->error <= figure->error_limit;
    head_free(&head);
    return status;
}
