/*
 * equal.c: the rules of equal.h. Scores are pooled again here, in double and without the backends' code, so that a
 * mistake there cannot hide here.
 */
#include "equal.h"

#include "cpu_tile.h"
#include "error.h"
#include "half.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COVERAGE_TOLERANCE 1e-6
#define THRESHOLD_TOLERANCE 0x1p-12
#define ROWS_ALL 2048   /* up to so many kept rows, each is computed */
#define ROWS_SAMPLED 64 /* else so many, evenly, the last among them */

/* What is known while a case is checked; the arrays are those of the current sequence. */
struct check {
    const struct equal_case *reference;
    const struct equal_result *result;
    struct equal_report *report;
    int index_heads;
    long long candidates;
    double *rank;   /* (Hi, N) */
    double *mean;   /* (N) */
    double *sorted; /* (L): scratch */
    double *row;    /* (D) */
    int32_t *seen;  /* (L): scratch */
};

__attribute__((format(printf, 2, 3))) static void differ(struct check *check, const char *format, ...)
{
    struct equal_report *report = check->report;
    if (report->equal) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(report->message, sizeof report->message, format, arguments);
        va_end(arguments);
    }
    report->equal = false;
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* ---- what should be chosen */

/* Steps 2 and 4's rank of one sequence, from the reference's score. */
static void pool(struct check *check, int sequence)
{
    const tamis_problem *problem = check->reference->problem;
    const int q_heads = problem->q_heads, group = q_heads / check->index_heads, half = problem->selection.pool / 2;
    const long long candidates = check->candidates;
    memset(check->rank, 0, (size_t)(check->index_heads * candidates) * sizeof *check->rank);
    memset(check->mean, 0, (size_t)candidates * sizeof *check->mean);
    for (int head = 0; head < q_heads; head++) {
        const float *score = check->reference->score + ((long long)sequence * q_heads + head) * candidates;
        for (long long j = 0; j < candidates; j++) {
            double sum = 0;
            for (long long i = j - half; i <= j + half; i++) sum += i < 0 || i >= candidates ? 0 : (double)score[i];
            check->rank[head / group * candidates + j] += sum / problem->selection.pool;
            check->mean[j] += sum / problem->selection.pool / q_heads;
        }
    }
}

/* The `drop` of step 3 that leads to a kept count. */
static long long drop_of(const struct check *check, long long kept)
{
    const tamis_problem *problem = check->reference->problem;
    return kept == problem->seq_len ? 0 : check->candidates - (kept - problem->selection.window) - 1;
}

/* Whether every count between the two is within the tolerance of the coverage. */
static bool counts_agree(struct check *check, long long a, long long b)
{
    const long long least = drop_of(check, a < b ? b : a), most = drop_of(check, a < b ? a : b);
    const double coverage = check->reference->problem->selection.coverage;
    double total = 0, sum = 0;
    memcpy(check->sorted, check->mean, (size_t)check->candidates * sizeof *check->sorted);
    qsort(check->sorted, (size_t)check->candidates, sizeof *check->sorted, compare_doubles);
    for (long long j = 0; j < check->candidates; j++) total += check->sorted[j];
    for (long long j = 0; j < most && j < check->candidates; j++) {
        sum += check->sorted[j] / total;
        if (j >= least && fabs(sum - coverage) > COVERAGE_TOLERANCE * coverage) return false;
    }
    return true;
}

static bool check_kept(struct check *check, int sequence)
{
    const tamis_problem *problem = check->reference->problem;
    const long long kept = check->result->kept[sequence], expected = check->reference->kept[sequence];
    if (kept > check->result->capacity) {
        differ(check, "sequence %d: %lld tokens kept, with room for %lld", sequence, kept, check->result->capacity);
        return false;
    }
    if (kept == expected) return true;
    check->report->kept_differ++;
    if (kept >= problem->selection.window && kept <= problem->seq_len && problem->selection.policy == TAMIS_COVERAGE &&
        check->candidates > 0 && counts_agree(check, kept, expected))
        return true;
    differ(check, "sequence %d: %lld tokens kept, not %lld", sequence, kept, expected);
    return false;
}

/* ---- what was chosen */

static const int32_t *list_of(const struct check *check, int sequence, int list)
{
    return check->result->indices + ((long long)sequence * check->index_heads + list) * check->result->capacity;
}

/* Ascending positions, and the window at the end. */
static bool check_form(struct check *check, int sequence, int list)
{
    const long long kept = check->result->kept[sequence], seq_len = check->reference->problem->seq_len;
    const long long keep = kept - (seq_len - check->candidates);
    const int32_t *indices = list_of(check, sequence, list);
    for (long long i = 0; i < kept; i++) {
        const bool in_window = i >= keep && indices[i] == check->candidates + (i - keep);
        const bool chosen = i < keep && indices[i] >= 0 && indices[i] < check->candidates;
        if ((!in_window && !chosen) || (i > 0 && indices[i] <= indices[i - 1])) {
            differ(check, "sequence %d, list %d: entry %lld is %d, which is out of order, out of range or not the window's",
                   sequence, list, i, indices[i]);
            return false;
        }
    }
    return true;
}

/* A token that the threshold alone would not choose so. */
static void note_position(struct check *check, int sequence, int list, long long position, double score, double threshold,
                          bool chosen)
{
    const double distance = fabs(score - threshold) / threshold;
    check->report->positions_differ++;
    if (distance > check->report->threshold_distance) check->report->threshold_distance = distance;
    if (!(distance <= THRESHOLD_TOLERANCE))
        differ(check, "sequence %d, list %d: token %lld is %s at a pooled score of %g, the threshold is %g", sequence, list,
               position, chosen ? "kept" : "dropped", score, threshold);
}

static void check_choice(struct check *check, int sequence, int list)
{
    const long long candidates = check->candidates;
    const long long keep = check->result->kept[sequence] - (check->reference->problem->seq_len - candidates);
    const double *rank = check->rank + list * candidates;
    const int32_t *indices = list_of(check, sequence, list);
    if (keep == 0 || keep == candidates) return;
    memcpy(check->sorted, rank, (size_t)candidates * sizeof *rank);
    qsort(check->sorted, (size_t)candidates, sizeof *rank, compare_doubles);
    const double threshold = check->sorted[candidates - keep];
    long long i = 0;
    for (long long j = 0; j < candidates; j++) {
        const bool chosen = i < keep && indices[i] == j;
        i += chosen;
        if (chosen ? rank[j] < threshold : rank[j] > threshold)
            note_position(check, sequence, list, j, rank[j], threshold, chosen);
    }
}

/* ---- the output */

static double dot(const double *a, const double *b, int count)
{
    double sum = 0;
    for (int d = 0; d < count; d++) sum += a[d] * b[d];
    return sum;
}

void equal_attend_row(double *out, const tamis_problem *problem, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                      const int32_t *indices, long long i, double *scratch)
{
    const int head_dim = problem->head_dim;
    const double scale = problem->scale != 0 ? problem->scale : 1 / sqrt((double)head_dim);
    const long long last = problem->mask == TAMIS_FULL ? problem->seq_len - 1 : i;
    double query[TAMISI_CPU_HEAD_DIM_MAX], row[TAMISI_CPU_HEAD_DIM_MAX], largest = -INFINITY, sum = 0;
    tamisi_half_read_double(query, q + (indices ? indices[i] : i) * head_dim, (size_t)head_dim, problem->dtype);
    for (long long j = 0; j <= last; j++) {
        tamisi_half_read_double(row, k + (indices ? indices[j] : j) * head_dim, (size_t)head_dim, problem->dtype);
        scratch[j] = scale * dot(query, row, head_dim);
        if (scratch[j] > largest) largest = scratch[j];
    }
    for (int d = 0; d < head_dim; d++) out[d] = 0;
    for (long long j = 0; j <= last; j++) {
        const double weight = exp(scratch[j] - largest);
        tamisi_half_read_double(row, v + (indices ? indices[j] : j) * head_dim, (size_t)head_dim, problem->dtype);
        sum += weight;
        for (int d = 0; d < head_dim; d++) out[d] += weight * row[d];
    }
    for (int d = 0; d < head_dim; d++) out[d] /= sum;
}

void equal_attend_blocks(double *out, const tamis_problem *problem, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                         const int32_t *indices, long long i, const struct block_mask *mask, long long head, int32_t *seen,
                         double *scratch)
{
    long long count = 0;
    for (long long j = 0; j <= i; j++)
        if (block_mask_has(mask, head, (int)(i / TAMIS_BLOCK_SIZE), (int)(j / TAMIS_BLOCK_SIZE)))
            seen[count++] = indices ? indices[j] : (int32_t)j;
    equal_attend_row(out, problem, q, k, v, seen, count - 1, scratch);
}

/* Squares of difference and reference, summed over rows. */
struct norms {
    double difference, reference;
};

static double error_of(const struct norms *norms)
{
    return norms->reference > 0 ? sqrt(norms->difference / norms->reference) : sqrt(norms->difference);
}

double equal_norm_error(const float *result, const float *reference, long long count)
{
    struct norms norms = {0, 0};
    for (long long i = 0; i < count; i++) {
        const double difference = (double)result[i] - (double)reference[i];
        norms.difference += difference * difference;
        norms.reference += (double)reference[i] * (double)reference[i];
    }
    return error_of(&norms);
}

/* No NaN, and nothing but zero bits in dropped rows. */
static bool check_rows(struct check *check, int sequence, int head, const float *output, const int32_t *indices)
{
    const tamis_problem *problem = check->reference->problem;
    const long long kept = check->result->kept[sequence];
    long long i = 0;
    for (long long token = 0; token < problem->seq_len; token++) {
        const float *row = output + token * problem->head_dim;
        const bool dropped = i == kept || indices[i] != token;
        i += !dropped;
        for (int d = 0; d < problem->head_dim; d++) {
            uint32_t bits;
            memcpy(&bits, &row[d], sizeof bits);
            if (isnan(row[d]) || (dropped && bits != 0)) {
                differ(check, "sequence %d, head %d: token %lld %s", sequence, head, token,
                       isnan(row[d]) ? "has a NaN" : "was dropped, but its output is not zero");
                return false;
            }
        }
    }
    return true;
}

/* Entry i of a list, as it must be, into check->row. */
static void compute_row(struct check *check, long long q_head, long long kv_head, const int32_t *indices, long long i)
{
    const struct equal_case *reference = check->reference;
    const tamis_problem *problem = reference->problem;
    const long long elements = problem->seq_len * problem->head_dim;
    const uint16_t *q = reference->q + q_head * elements, *k = reference->k + kv_head * elements;
    const uint16_t *v = reference->v + kv_head * elements;
    if (reference->mask)
        equal_attend_blocks(check->row, problem, q, k, v, indices, i, reference->mask, q_head, check->seen, check->sorted);
    else
        equal_attend_row(check->row, problem, q, k, v, indices, i, check->sorted);
}

/* Against rows computed here: all, or a sample of them. */
static double computed_error(struct check *check, int sequence, int head, const float *output, const int32_t *indices)
{
    const tamis_problem *problem = check->reference->problem;
    const long long kept = check->result->kept[sequence];
    const long long q_head = (long long)sequence * problem->q_heads + head;
    const long long kv_head = (long long)sequence * problem->kv_heads + head / (problem->q_heads / problem->kv_heads);
    const long long rows = kept <= ROWS_ALL ? kept : ROWS_SAMPLED;
    struct norms norms = {0, 0};
    for (long long sample = 0; sample < rows; sample++) {
        const long long i = rows == kept ? sample : (sample + 1) * kept / rows - 1;
        compute_row(check, q_head, kv_head, indices, i);
        const float *row = output + indices[i] * (long long)problem->head_dim;
        for (int d = 0; d < problem->head_dim; d++) {
            const double difference = (double)row[d] - check->row[d];
            norms.difference += difference * difference;
            norms.reference += check->row[d] * check->row[d];
        }
    }
    check->report->heads_computed++;
    return error_of(&norms);
}

static bool is_reference_list(const struct check *check, int sequence, int list)
{
    const struct equal_case *reference = check->reference;
    const int32_t kept = check->result->kept[sequence];
    if (!reference->output || !reference->indices || reference->kept[sequence] != kept) return false;
    return memcmp(list_of(check, sequence, list),
                  reference->indices + ((long long)sequence * check->index_heads + list) * reference->capacity,
                  (size_t)kept * sizeof(int32_t)) == 0;
}

static void check_output(struct check *check, int sequence, int head)
{
    const tamis_problem *problem = check->reference->problem;
    const int list = head / (problem->q_heads / check->index_heads);
    const long long elements = problem->seq_len * problem->head_dim;
    const long long offset = ((long long)sequence * problem->q_heads + head) * elements;
    const float *output = check->result->output + offset;
    const int32_t *indices = list_of(check, sequence, list);
    if (!check_rows(check, sequence, head, output, indices)) return;
    const double error = is_reference_list(check, sequence, list)
                             ? equal_norm_error(output, check->reference->output + offset, elements)
                             : computed_error(check, sequence, head, output, indices);
    if (!(error <= check->report->output_error)) check->report->output_error = error;
    if (!(error <= check->report->output_limit))
        differ(check, "sequence %d, head %d: the output's error is %.3g, at most %g is equal", sequence, head, error,
               check->report->output_limit);
}

static void check_sequence(struct check *check, int sequence)
{
    const bool ranked = check->candidates > 0 && check->reference->score;
    if (ranked) pool(check, sequence);
    if (!check_kept(check, sequence)) return;
    for (int list = 0; list < check->index_heads; list++) {
        if (!check_form(check, sequence, list)) return;
        if (ranked) check_choice(check, sequence, list);
    }
    for (int head = 0; head < check->reference->problem->q_heads; head++) check_output(check, sequence, head);
}

tamis_status equal_check(struct equal_report *report, const struct equal_case *reference, const struct equal_result *result)
{
    const tamis_problem *problem = reference->problem;
    const long long window = problem->selection.window;
    struct check check = {.reference = reference, .result = result, .report = report};
    check.index_heads = problem->selection.scope == TAMIS_SCOPE_HEAD       ? problem->q_heads
                        : problem->selection.scope == TAMIS_SCOPE_KV_GROUP ? problem->kv_heads
                                                                           : 1;
    check.candidates = problem->seq_len > window ? problem->seq_len - window : 0;
    *report = (struct equal_report){.equal = true, .output_limit = problem->dtype == TAMIS_FP16 ? 1e-3 : 4e-3};

    const size_t candidates = (size_t)check.candidates + 1; /* never 0 */
    check.rank = malloc((size_t)check.index_heads * candidates * sizeof *check.rank);
    check.mean = malloc(candidates * sizeof *check.mean);
    check.sorted = malloc((size_t)problem->seq_len * sizeof *check.sorted);
    check.row = malloc((size_t)problem->head_dim * sizeof *check.row);
    check.seen = malloc((size_t)problem->seq_len * sizeof *check.seen);
    const bool complete = check.rank && check.mean && check.sorted && check.row && check.seen;
    for (int sequence = 0; complete && sequence < problem->batch; sequence++) check_sequence(&check, sequence);
    free(check.rank);
    free(check.mean);
    free(check.sorted);
    free(check.row);
    free(check.seen);
    return complete ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory to compare results");
}
