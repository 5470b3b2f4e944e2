/*
 * cpu_brute.c: the operator's selection by brute force in double, written from its definition: softmax over whole rows,
 * sorting for the budget and for the choice. Slow, and shares nothing with the backend but the reading of 16-bit numbers.
 */
#include "cpu_case.h"

#include "half.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    double score;
    int32_t position;
};

/* Largest first; equal scores: the lower position. */
static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    if (left->score != right->score) return left->score < right->score ? 1 : -1;
    return (left->position > right->position) - (left->position < right->position);
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double dot(const uint16_t *a, const uint16_t *b, int count, tamis_dtype dtype)
{
    double sum = 0;
    for (int d = 0; d < count; d++)
        sum += (double)tamisi_half_to_float(a[d], dtype) * (double)tamisi_half_to_float(b[d], dtype);
    return sum;
}

/* Logits of row i over keys 0 to `last`; returns their log-sum-exp. `list`: the sequence, or NULL for 0, 1, 2, ... */
static double row_logits(const struct cpu_case *c, long long sequence, int head, const int32_t *list, long long i,
                         long long last, double *logits)
{
    const tamis_problem *problem = &c->problem;
    const long long dim = problem->head_dim, elements = problem->seq_len * dim;
    const int kv_head = head / (problem->q_heads / problem->kv_heads);
    const uint16_t *q = c->q + (sequence * problem->q_heads + head) * elements;
    const uint16_t *k = c->k + (sequence * problem->kv_heads + kv_head) * elements;
    const double scale = problem->scale > 0 ? problem->scale : 1 / sqrt((double)dim);
    double largest = -INFINITY, sum = 0;
    for (long long j = 0; j <= last; j++) {
        logits[j] = scale * dot(q + (list ? list[i] : i) * dim, k + (list ? list[j] : j) * dim, (int)dim, problem->dtype);
        largest = logits[j] > largest ? logits[j] : largest;
    }
    for (long long j = 0; j <= last; j++) sum += exp(logits[j] - largest);
    return largest + log(sum);
}

static void score_head(const struct cpu_case *c, long long sequence, int head, double *score, double *logits)
{
    const long long window = c->problem.selection.window;
    for (long long j = 0; j < c->candidates; j++) score[j] = 0;
    for (long long i = c->candidates; i < c->problem.seq_len; i++) {
        const double lse = row_logits(c, sequence, head, NULL, i, i, logits);
        for (long long j = 0; j < c->candidates; j++) score[j] += exp(logits[j] - lse) / (double)window;
    }
}

static long long keep_of(const struct cpu_case *c, double *mean)
{
    const tamis_selection *selection = &c->problem.selection;
    const long long candidates = c->candidates, least = selection->min_tokens;
    double total = 0, sum = 0;
    long long drop = 0;
    if (selection->policy == TAMIS_DENSE || candidates <= least) return candidates;
    if (selection->policy == TAMIS_RATIO) {
        const long long keep = (long long)ceil(selection->ratio * (double)candidates);
        return keep > least ? keep : least;
    }
    if (selection->policy == TAMIS_COUNT) {
        const long long keep = selection->count > least ? selection->count : least;
        return keep < candidates ? keep : candidates;
    }
    qsort(mean, (size_t)candidates, sizeof *mean, compare_doubles);
    for (long long j = 0; j < candidates; j++) total += mean[j];
    for (long long j = 0; j < candidates; j++) drop += (sum += mean[j] / total) < selection->coverage;
    if (drop == 0) return candidates;
    return candidates - (drop + 1) > least ? candidates - (drop + 1) : least;
}

/* The list of one index head from its rank; the window is appended. */
static void choose(const struct cpu_case *c, const double *rank, long long keep, struct candidate *order, int32_t *list)
{
    for (long long j = 0; j < c->candidates; j++) {
        order[j] = (struct candidate){rank[j], (int32_t)j};
        list[j] = 0;
    }
    qsort(order, (size_t)c->candidates, sizeof *order, compare_candidates);
    for (long long i = 0; i < keep; i++) list[order[i].position] = 1;
    long long count = 0;
    for (long long j = 0; j < c->problem.seq_len; j++) /* marks become positions; never ahead of what is still to be read */
        if (j >= c->candidates || list[j]) list[count++] = (int32_t)j;
}

static void reference_sequence(struct cpu_case *c, long long b, double *score, double *rank, double *mean, double *logits,
                               struct candidate *order)
{
    const int q_heads = c->problem.q_heads, group = q_heads / c->index_heads, half = c->problem.selection.pool / 2;
    const long long candidates = c->candidates;
    for (long long j = 0; j < candidates; j++) mean[j] = 0;
    for (long long j = 0; j < c->index_heads * candidates; j++) rank[j] = 0;
    for (int head = 0; head < q_heads; head++) {
        score_head(c, b, head, score, logits);
        for (long long j = 0; j < candidates; j++) {
            double pooled = 0;
            for (long long i = j - half; i <= j + half; i++) pooled += i >= 0 && i < candidates ? score[i] : 0;
            pooled /= c->problem.selection.pool;
            rank[head / group * candidates + j] += pooled;
            mean[j] += pooled / q_heads;
            c->reference_score[(b * q_heads + head) * candidates + j] = (float)score[j];
        }
    }
    const long long keep = keep_of(c, mean);
    c->reference_kept[b] = (int32_t)(keep + c->problem.seq_len - candidates);
    for (int list = 0; list < c->index_heads; list++)
        choose(c, rank + list * candidates, keep, order,
               c->reference_indices + (b * c->index_heads + list) * c->reference_capacity);
}

static void *array(long long count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size);
    ck_assert_ptr_nonnull(memory);
    return memory;
}

void cpu_case_reference(struct cpu_case *c)
{
    const long long batch = c->problem.batch, candidates = c->candidates, seq_len = c->problem.seq_len;
    double *score = array(candidates, sizeof *score), *rank = array(c->index_heads * candidates, sizeof *rank);
    double *mean = array(candidates, sizeof *mean), *logits = array(seq_len, sizeof *logits);
    struct candidate *order = array(candidates, sizeof *order);
    c->reference_capacity = seq_len;
    c->reference_score = array(batch * c->problem.q_heads * candidates, sizeof(float));
    c->reference_kept = array(batch, sizeof(int32_t));
    c->reference_indices = array(batch * c->index_heads * seq_len, sizeof(int32_t));
    for (long long b = 0; b < batch; b++) reference_sequence(c, b, score, rank, mean, logits, order);
    free(score);
    free(rank);
    free(mean);
    free(logits);
    free(order);
}

void cpu_case_check_lse(const struct cpu_case *c)
{
    const long long seq_len = c->problem.seq_len, q_heads = c->problem.q_heads;
    double *logits = array(seq_len, sizeof *logits);
    for (long long row = 0; row < c->problem.batch * q_heads; row++) {
        const long long b = row / q_heads, kept = c->kept[b];
        const int head = (int)(row % q_heads);
        const int32_t *list = c->indices + (b * c->index_heads + head / (q_heads / c->index_heads)) * c->capacity;
        const float *lse = c->lse + row * seq_len;
        long long i = 0;
        for (long long token = 0; token < seq_len; token++) {
            if (i == kept || list[i] != token) {
                if (lse[token] != -INFINITY) ck_abort_msg("row %lld: token %lld was dropped", row, token);
                continue;
            }
            if (!isfinite(lse[token])) ck_abort_msg("row %lld: token %lld was kept", row, token);
            const long long last = c->problem.mask == TAMIS_FULL ? kept - 1 : i;
            if (i % 13 == 0 || i == kept - 1)
                ck_assert_double_eq_tol((double)lse[token], row_logits(c, b, head, list, i, last, logits), 2e-5);
            i++;
        }
    }
    free(logits);
}
