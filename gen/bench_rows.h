/*
 * bench_rows.h: sampled rows of three heads, and what dense attention in double precision gives for them: what the benches of
 * structured inputs measure errors against. Layer: beside bench_data.c; above equal, below bench_compose.c and bench_ablate.c.
 */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "bench.h"

#define BENCH_SAMPLES 48 /* rows of a head, at most */

/* Inputs of batch 1, (heads, L, D) each and contiguous on the device. */
struct bench_rows {
    struct bench *bench;
    const tamis_problem *problem; /* its selection does not matter */
    const void *q, *k, *v;
    int samples;                              /* of each head */
    long long at[BENCH_HEADS][BENCH_SAMPLES]; /* set before bench_rows_compute() */
    bool with_weights;
    double *right;  /* (BENCH_HEADS, samples, D) */
    float *weights; /* (BENCH_HEADS, samples, L), zero after the row: what each token weighs; else NULL */
};

/* TAMIS_OK; TAMIS_ENOMEM; statuses of tamis_memory_read. bench_rows_free() is due in any case. */
tamis_status bench_rows_compute(struct bench_rows *rows);
void bench_rows_free(struct bench_rows *rows);

int bench_rows_head(const tamis_problem *problem, int place); /* the first, the middle or the last query head */
/* One head of a tensor as long as the inputs, into (L, D) numbers on the host. */
tamis_status bench_rows_read(const struct bench_rows *rows, uint16_t *out, const void *device, int head);
const double *bench_rows_right(const struct bench_rows *rows, int place, int sample);
const float *bench_rows_weights(const struct bench_rows *rows, int place, int sample);

/* Squares of a difference, and of what it is measured by, summed over rows. */
struct bench_norms {
    double difference, squares;
};

void bench_norms_add(struct bench_norms *norms, const double *found, const double *right, int count);
void bench_norms_add_half(struct bench_norms *norms, const uint16_t *row, const double *right, const tamis_problem *problem);
double bench_norms_error(const struct bench_norms *norms); /* NaN where there is nothing to measure by */

#endif
