/*
 * cpu_pattern_xattention.c: the pattern XATTENTION on the CPU. Its definition is in cpu_pattern.h.
 */
#include "cpu_pattern.h"

#include <math.h>
#include <string.h>

/* A row of a tensor, zeros from n on. */
static void read_row(double *out, const struct tamisi_cpu_maker *maker, const struct tamisi_cpu_rows *rows, long long i)
{
    if (i < maker->rows)
        tamisi_cpu_maker_row(out, maker, rows, i);
    else
        memset(out, 0, (size_t)maker->head_dim * sizeof *out);
}

/* score(r, c), the queries of r at hand: query r S + t in row t. */
static double antidiagonal(const struct tamisi_cpu_maker *maker, const double *queries, long long c)
{
    const int stride = maker->pattern->xattention.stride, dim = maker->head_dim;
    double key[TAMISI_CPU_HEAD_DIM_MAX], sum = 0;
    for (int t = 0; t < stride && c * stride + t < maker->rows; t++) {
        tamisi_cpu_maker_row(key, maker, &maker->k, c * stride + t);
        sum += tamisi_cpu_maker_dot(queries + (stride - 1 - t) * dim, key, dim);
    }
    return maker->scale / stride * sum;
}

/* log(exp(a) + exp(b)); both may be -inf. */
static double log_add(double a, double b)
{
    const double high = a > b ? a : b, low = a > b ? b : a;
    return high == -INFINITY ? high : high + log1p(exp(low - high));
}

/* Add the probabilities of row r to the estimates of its query block; `logs` is scratch for as many. */
static void add_row(const struct tamisi_cpu_maker *maker, long long r, struct tamisi_cpu_item *items, double *logs, int blocks)
{
    double queries[64 * TAMISI_CPU_HEAD_DIM_MAX]; /* of the longest stride */
    const int stride = maker->pattern->xattention.stride, a_block = TAMIS_BLOCK_SIZE / stride;
    double all = -INFINITY;
    for (int t = 0; t < stride; t++) read_row(queries + t * maker->head_dim, maker, &maker->q, r * stride + t);
    for (long long j = 0; j < blocks; j++) {
        logs[j] = -INFINITY;
        for (long long c = j * a_block; c <= r && c < (j + 1) * a_block; c++)
            logs[j] = log_add(logs[j], antidiagonal(maker, queries, c));
        all = log_add(all, logs[j]);
    }
    for (int j = 0; j < blocks; j++) items[j].value += exp(logs[j] - all);
}

/* Block i's choice among `blocks` estimates. */
static void choose(const struct tamisi_cpu_maker *maker, struct tamisi_cpu_item *items, unsigned char *chosen, int blocks)
{
    const int i = blocks - 1;
    double total = 0;
    for (int j = 0; j < blocks; j++) total += items[j].value;
    const double required = maker->pattern->xattention.threshold * total;
    double sum = items[0].value + (i > 0 ? items[i].value : 0);
    for (int j = 0; j < blocks; j++) chosen[j] = 0;
    chosen[0] = chosen[i] = 1;
    tamisi_cpu_items_sort(items, blocks);
    for (int rank = 0; rank < blocks && sum < required; rank++) {
        if (chosen[items[rank].at]) continue; /* 0 and i, counted already */
        chosen[items[rank].at] = 1;
        sum += items[rank].value;
    }
}

static void xattention_task(void *argument, long long index)
{
    const struct tamisi_cpu_maker *maker = argument;
    const long long i = maker->blocks - 1 - index; /* the longest first */
    const int stride = maker->pattern->xattention.stride, a_block = TAMIS_BLOCK_SIZE / stride;
    const long long reduced = (maker->rows + stride - 1) / stride; /* n' */
    struct tamisi_cpu_item *items = maker->memory.items + tamisi_cpu_triangle(i);
    unsigned char *chosen = maker->memory.chosen + tamisi_cpu_triangle(i);
    for (long long j = 0; j <= i; j++) items[j] = (struct tamisi_cpu_item){0, j};
    for (long long r = i * a_block; r < reduced && r < (i + 1) * a_block; r++)
        add_row(maker, r, items, maker->memory.triangle + tamisi_cpu_triangle(i), (int)i + 1);
    choose(maker, items, chosen, (int)i + 1);
    tamisi_cpu_maker_list(maker, (int)i, chosen);
}

void tamisi_cpu_make_xattention(const struct tamisi_cpu_maker *maker)
{
    struct tamisi_cpu_maker work = *maker;
    tamisi_cpu_threads_run(maker->threads, maker->blocks, xattention_task, &work);
}
