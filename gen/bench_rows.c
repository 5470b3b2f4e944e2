/*
 * bench_rows.c: see bench_rows.h.
 */
#include "bench_rows.h"

#include "equal.h"
#include "error.h"
#include "half.h"

#include <math.h>
#include <stdlib.h>

/* ---- inputs and what is right for them */

int bench_rows_head(const tamis_problem *problem, int place)
{
    const int heads = problem->q_heads, of[BENCH_HEADS] = {0, heads / 2, heads - 1};
    return of[place];
}

tamis_status bench_rows_read(const struct bench_rows *rows, uint16_t *out, const void *device, int head)
{
    const size_t count = (size_t)rows->problem->seq_len * (size_t)rows->problem->head_dim;
    return tamis_memory_read(rows->bench->context, out, (const uint16_t *)device + (size_t)head * count, count * sizeof *out,
                             rows->bench->stream);
}

static long long index_of(const struct bench_rows *rows, int place, int sample)
{
    return (long long)place * rows->samples + sample;
}

const double *bench_rows_right(const struct bench_rows *rows, int place, int sample)
{
    return rows->right + index_of(rows, place, sample) * rows->problem->head_dim;
}

const float *bench_rows_weights(const struct bench_rows *rows, int place, int sample)
{
    return rows->weights + index_of(rows, place, sample) * rows->problem->seq_len;
}

/* From the logits of the tokens that a row sees. */
static void set_weights(const struct bench_rows *rows, int place, int sample, const double *logits)
{
    const long long seq_len = rows->problem->seq_len, last = rows->at[place][sample];
    float *out = rows->weights + index_of(rows, place, sample) * seq_len;
    double largest = -INFINITY, sum = 0;
    for (long long j = 0; j <= last; j++) largest = fmax(largest, logits[j]);
    for (long long j = 0; j <= last; j++) sum += exp(logits[j] - largest);
    for (long long j = 0; j < seq_len; j++) out[j] = j <= last ? (float)(exp(logits[j] - largest) / sum) : 0;
}

static tamis_status compute_head(struct bench_rows *rows, int place, uint16_t *q, uint16_t *k, uint16_t *v, double *scratch)
{
    const tamis_problem *p = rows->problem;
    const int head = bench_rows_head(p, place), kv_head = head / (p->q_heads / p->kv_heads);
    TAMIS_TRY(bench_rows_read(rows, q, rows->q, head));
    TAMIS_TRY(bench_rows_read(rows, k, rows->k, kv_head));
    TAMIS_TRY(bench_rows_read(rows, v, rows->v, kv_head));
    for (int s = 0; s < rows->samples; s++) {
        double *right = rows->right + index_of(rows, place, s) * p->head_dim;
        equal_attend_row(right, p, q, k, v, NULL, rows->at[place][s], scratch);
        if (rows->weights) set_weights(rows, place, s, scratch);
    }
    return TAMIS_OK;
}

tamis_status bench_rows_compute(struct bench_rows *rows)
{
    const size_t seq_len = (size_t)rows->problem->seq_len, dim = (size_t)rows->problem->head_dim;
    const size_t all = (size_t)(BENCH_HEADS * rows->samples), count = seq_len * dim;
    uint16_t *host = malloc(3 * count * sizeof *host);
    double *scratch = malloc(seq_len * sizeof *scratch);
    bench_rows_free(rows); /* of other inputs */
    rows->right = malloc(all * dim * sizeof *rows->right);
    if (rows->with_weights) rows->weights = malloc(all * seq_len * sizeof *rows->weights);
    tamis_status status = host && scratch && rows->right && (rows->weights || !rows->with_weights)
                              ? TAMIS_OK
                              : tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu rows of a head", seq_len);
    for (int place = 0; place < BENCH_HEADS && status == TAMIS_OK; place++)
        status = compute_head(rows, place, host, host + count, host + 2 * count, scratch);
    free(host);
    free(scratch);
    return status;
}

void bench_rows_free(struct bench_rows *rows)
{
    free(rows->right);
    free(rows->weights);
    rows->right = NULL;
    rows->weights = NULL;
}

/* ---- errors */

void bench_norms_add(struct bench_norms *norms, const double *found, const double *right, int count)
{
    for (int d = 0; d < count; d++) {
        norms->difference += (found[d] - right[d]) * (found[d] - right[d]);
        norms->squares += right[d] * right[d];
    }
}

void bench_norms_add_half(struct bench_norms *norms, const uint16_t *row, const double *right, const tamis_problem *problem)
{
    for (int d = 0; d < problem->head_dim; d++) {
        const double found = (double)tamisi_half_to_float(row[d], problem->dtype);
        bench_norms_add(norms, &found, right + d, 1);
    }
}

double bench_norms_error(const struct bench_norms *norms) { return sqrt(norms->difference / norms->squares); }
