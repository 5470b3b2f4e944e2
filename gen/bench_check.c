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
#include <string.h>

#define SPARING_ROWS 4

/* One head on the host. */
struct head {
    uint16_t *output;
    uint16_t *q, *k, *v; /* NULL where nothing has to be computed */
    double *scratch;
};

static void head_free(struct head *head)
{
    free(head->q);
    free(head->k);
    free(head->v);
    free(head->output);
    free(head->scratch);
    *head = (struct head){NULL, NULL, NULL, NULL, NULL};
}

static tamis_status read_array(struct bench *bench, uint16_t **out, const void *device, size_t at, size_t count)
{
    *out = malloc(count * sizeof **out);
    if (!*out) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu numbers of a head", count);
    return tamis_memory_read(bench->context, *out, (const uint16_t *)device + at, count * sizeof **out, bench->stream);
}

/* Elements of a head, and where a head of `heads` begins in the sequence that is looked at. */
static size_t head_count(const tamis_problem *problem, const struct bench_arrays *arrays)
{
    return (size_t)arrays->rows * (size_t)problem->head_dim;
}

static size_t head_at(const tamis_problem *problem, const struct bench_arrays *arrays, int heads, int head)
{
    return ((size_t)arrays->sequence * (size_t)heads + (size_t)head) * head_count(problem, arrays);
}

static tamis_status read_inputs(struct bench *bench, struct head *out, const tamis_problem *problem,
                                const struct bench_arrays *arrays, int head)
{
    const int kv_head = head / (problem->q_heads / arrays->kv_heads);
    const size_t count = head_count(problem, arrays), at = head_at(problem, arrays, problem->q_heads, head);
    const size_t kv_at = head_at(problem, arrays, arrays->kv_heads, kv_head);
    TAMIS_TRY(read_array(bench, &out->q, arrays->q, at, count));
    TAMIS_TRY(read_array(bench, &out->k, arrays->k, kv_at, count));
    TAMIS_TRY(read_array(bench, &out->v, arrays->v, kv_at, count));
    out->scratch = malloc((size_t)arrays->rows * sizeof *out->scratch);
    return out->scratch ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for %lld weights", arrays->rows);
}

/* In either format a NaN, and nothing else, is above infinity but for its sign. */
static bool has_nan(const struct head *head, long long rows, const tamis_problem *problem)
{
    const unsigned infinity = problem->dtype == TAMIS_FP16 ? 0x7c00 : 0x7f80;
    const size_t count = (size_t)rows * (size_t)problem->head_dim;
    unsigned found = 0;
    for (size_t i = 0; i < count; i++) found |= (head->output[i] & 0x7fffu) > infinity;
    return found != 0;
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

/* ---- what the sampled rows must be */

static void reference_free(struct bench_reference *reference)
{
    free(reference->list);
    free(reference->values);
    *reference = (struct bench_reference){.attends = 0};
}

void bench_memory_forget(struct bench_memory *memory)
{
    for (int i = 0; i < BENCH_HEADS; i++) reference_free(&memory->heads[i]);
}

static bool is_known(const struct bench_reference *reference, long long attends, const int32_t *list)
{
    if (reference->attends != attends || (list != NULL) != (reference->list != NULL)) return false;
    return !list || memcmp(list, reference->list, (size_t)attends * sizeof *list) == 0;
}

/* One row of each of as many stretches of equal length. */
static void sample_rows(struct bench *bench, struct bench_reference *out, long long attends)
{
    const long long most = bench->sparing ? SPARING_ROWS : BENCH_ROWS;
    out->samples = (int)(attends < most ? attends : most);
    for (int s = 0; s < out->samples; s++) {
        const long long first = s * attends / out->samples, end = (s + 1) * attends / out->samples;
        const unsigned long long step = bench_random(&bench->random) % (unsigned long long)(end - first);
        out->rows[s] = s + 1 == out->samples ? attends - 1 : first + (long long)step;
    }
}

static tamis_status compute_blocks(struct bench_reference *out, const struct head *head, int q_head,
                                   const struct bench_arrays *arrays, const tamis_problem *problem)
{
    int32_t *seen = malloc((size_t)arrays->rows * sizeof *seen);
    if (!seen) return tamisi_fail(TAMIS_ENOMEM, "out of memory for rows of %lld", arrays->rows);
    for (int s = 0; s < out->samples; s++)
        equal_attend_blocks(out->values + s * problem->head_dim, problem, head->q, head->k, head->v, NULL, out->rows[s],
                            arrays->mask, q_head, seen, head->scratch);
    free(seen);
    return TAMIS_OK;
}

/* `list` NULL: every row attends. */
static tamis_status compute(struct bench *bench, struct bench_reference *out, struct head *head, int q_head,
                            const struct bench_arrays *arrays, const tamis_problem *problem, const int32_t *list)
{
    const long long attends = list ? arrays->kept : arrays->rows;
    reference_free(out);
    sample_rows(bench, out, attends);
    out->values = malloc((size_t)out->samples * (size_t)problem->head_dim * sizeof *out->values);
    out->list = list ? malloc((size_t)attends * sizeof *out->list) : NULL;
    if (!out->values || (list && !out->list)) return tamisi_fail(TAMIS_ENOMEM, "out of memory for rows of %lld", attends);
    if (list) memcpy(out->list, list, (size_t)attends * sizeof *list);
    TAMIS_TRY(read_inputs(bench, head, problem, arrays, q_head));
    out->attends = attends;
    if (arrays->mask) return compute_blocks(out, head, q_head, arrays, problem);
    for (int s = 0; s < out->samples; s++)
        equal_attend_row(out->values + s * problem->head_dim, problem, head->q, head->k, head->v, list, out->rows[s],
                         head->scratch);
    return TAMIS_OK;
}

static double compare(const struct bench_reference *reference, const struct head *head, const tamis_problem *problem)
{
    double difference = 0, squares = 0;
    for (int s = 0; s < reference->samples; s++) {
        const long long row = reference->list ? reference->list[reference->rows[s]] : reference->rows[s];
        const uint16_t *output = head->output + row * problem->head_dim;
        const double *right = reference->values + s * problem->head_dim;
        for (int d = 0; d < problem->head_dim; d++) {
            const double found = (double)tamisi_half_to_float(output[d], problem->dtype);
            difference += (found - right[d]) * (found - right[d]);
            squares += right[d] * right[d];
        }
    }
    return sqrt(difference / squares);
}

/* The error of one head, the `place`th of those that are looked at. */
static tamis_status check_head(struct bench *bench, double *error, const tamis_problem *problem,
                               const struct bench_arrays *arrays, int q_head, int place)
{
    const int index_head = arrays->lists ? q_head / (problem->q_heads / arrays->index_heads) : 0;
    const int32_t *list = arrays->lists ? arrays->lists + index_head * arrays->capacity : NULL;
    struct bench_memory none = {.heads = {{.attends = 0}}}, *memory = arrays->memory ? arrays->memory : &none;
    struct bench_reference *reference = &memory->heads[place];
    struct head head = {NULL, NULL, NULL, NULL, NULL};
    tamis_status status = read_array(bench, &head.output, arrays->output, head_at(problem, arrays, problem->q_heads, q_head),
                                     head_count(problem, arrays));
    if (status == TAMIS_OK && has_nan(&head, arrays->rows, problem)) *error = NAN;
    else if (status == TAMIS_OK && list && !is_sound(&head, arrays, problem, list)) *error = INFINITY;
    else if (status == TAMIS_OK) {
        if (!is_known(reference, list ? arrays->kept : arrays->rows, list))
            status = compute(bench, reference, &head, q_head, arrays, problem, list);
        if (status == TAMIS_OK) *error = compare(reference, &head, problem);
    }
    if (status != TAMIS_OK) reference_free(reference);
    head_free(&head);
    bench_memory_forget(&none);
    return status;
}

tamis_status bench_check(struct bench *bench, struct bench_figure *figure, const tamis_problem *problem,
                         const struct bench_arrays *arrays)
{
    const int heads[BENCH_HEADS] = {0, problem->q_heads / 2, problem->q_heads - 1};
    tamis_status status = TAMIS_OK;
    figure->error = 0;
    figure->error_limit = problem->dtype == TAMIS_FP16 ? 1e-3 : 4e-3;
    for (int i = 0; i < BENCH_HEADS && status == TAMIS_OK && !isnan(figure->error); i++) {
        double error = 0;
        if ((i > 0 && heads[i] == heads[i - 1]) || (i == 1 && bench->sparing)) continue;
        status = check_head(bench, &error, problem, arrays, heads[i], i);
        if (!(error <= figure->error)) figure->error = error;
    }
    figure->right = figure->error <= figure->error_limit;
    return status;
}
