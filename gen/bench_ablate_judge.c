/*
 * bench_ablate_judge.c: see bench_ablate_judge.h.
 */
#include "bench_ablate_judge.h"

#include "error.h"
#include "half.h"

#include <stdlib.h>

#define FITTED_ROWS 8 /* for each element of a row, at most */

/* ---- lists */

static long long candidates_of(const tamis_problem *problem)
{
    return problem->seq_len > problem->selection.window ? problem->seq_len - problem->selection.window : 0;
}

static bool list_is_right(const struct ablate_lists *lists, const int32_t *list)
{
    const long long seq_len = lists->problem->seq_len, candidates = candidates_of(lists->problem);
    for (long long i = 0; i < lists->kept; i++)
        if (list[i] < (i > 0 ? list[i - 1] + 1 : 0) || list[i] >= seq_len) return false;
    return list[lists->kept - (seq_len - candidates)] == candidates; /* and in order: all after it */
}

bool ablate_lists_are_right(const struct ablate_lists *lists)
{
    const long long window = lists->problem->seq_len - candidates_of(lists->problem);
    if (lists->kept != lists->capacity || lists->kept < window) return false;
    for (int list = 0; list < lists->heads; list++)
        if (!list_is_right(lists, lists->indices + list * lists->capacity)) return false;
    return true;
}

static const int32_t *list_of(const struct ablate_lists *lists, int head)
{
    return lists->indices + head / (lists->problem->q_heads / lists->heads) * lists->capacity;
}

double ablate_window_mass(const struct ablate_lists *lists, const float *score)
{
    const long long candidates = candidates_of(lists->problem);
    const int heads = lists->problem->q_heads;
    double sum = heads; /* all that the queries give; less what they give to dropped tokens */
    for (int head = 0; head < heads; head++) {
        const float *own = score + head * candidates;
        const int32_t *list = list_of(lists, head);
        for (long long j = 0; j < candidates; j++) sum -= (double)own[j];
        for (long long i = 0; i < lists->kept && list[i] < candidates; i++) sum += (double)own[list[i]];
    }
    return sum / heads;
}

/* ---- rows */

static void widen(double *out, const uint16_t *row, const tamis_problem *problem)
{
    for (int d = 0; d < problem->head_dim; d++) out[d] = (double)tamisi_half_to_float(row[d], problem->dtype);
}

tamis_status ablate_fit(struct linear_map *map, const struct ablate_lists *lists, int place, const uint16_t *output,
                        const uint16_t *dense)
{
    const tamis_problem *p = lists->problem;
    const int32_t *list = list_of(lists, bench_rows_head(p, place));
    const long long dim = p->head_dim, kept = lists->kept, most = FITTED_ROWS * dim, rows = kept < most ? kept : most;
    double *x = malloc(2 * (size_t)dim * sizeof *x);
    if (!x) return tamisi_fail(TAMIS_ENOMEM, "out of memory for two rows");
    linear_map_begin(map);
    for (long long i = 0; i < rows; i++) {
        const long long at = list[(i + 1) * kept / rows - 1] * dim;
        widen(x, output + at, p);
        widen(x + dim, dense + at, p);
        linear_map_add(map, x, x + dim);
    }
    free(x);
    return TAMIS_OK;
}

/* out[i][j] = matrix[j][i]: there a row is multiplied from the right, here its vector from the left. */
static void put_matrix(uint16_t *out, const struct linear_map *map, tamis_dtype dtype)
{
    for (int i = 0; i < map->dim; i++)
        for (int j = 0; j < map->dim; j++)
            out[i * map->dim + j] = tamisi_half_from_float((float)map->matrix[j * map->dim + i], dtype);
}

void ablate_matrices(uint16_t *out, const struct ablate_sums *sums, const tamis_problem *problem)
{
    const long long dim = problem->head_dim, elements = problem->q_heads * dim * dim;
    for (long long i = 0; i < elements; i++) out[i] = tamisi_half_from_float(i / dim % dim == i % dim, problem->dtype);
    for (int place = 0; place < BENCH_HEADS; place++)
        put_matrix(out + bench_rows_head(problem, place) * dim * dim, &sums->maps[place], problem->dtype);
}

struct judged {
    const struct bench_rows *rows;
    const struct ablate_output *output;
    bool *is_kept;                 /* (L) */
    double *row, *mapped, *exact; /* (D): scratch */
};

/* A kernel's product, and what it should be. */
static void judge_product(const struct judged *judged, struct ablate_sums *sums)
{
    const tamis_problem *p = judged->rows->problem;
    const int dim = p->head_dim;
    for (int j = 0; j < dim; j++) {
        judged->exact[j] = 0;
        for (int i = 0; i < dim; i++)
            judged->exact[j] += judged->row[i] * (double)tamisi_half_to_float(judged->output->matrix[i * dim + j], p->dtype);
    }
    bench_norms_add(&sums->fused, judged->mapped, judged->exact, dim);
}

static double mass_of(const struct judged *judged, int place, int sample)
{
    const float *weights = bench_rows_weights(judged->rows, place, sample);
    const long long last = judged->rows->at[place][sample];
    double sum = 0;
    for (long long j = 0; j <= last; j++) sum += judged->is_kept[j] ? (double)weights[j] : 0;
    return sum;
}

static void judge_row(const struct judged *judged, struct ablate_sums *sums, int place, int sample)
{
    const tamis_problem *p = judged->rows->problem;
    const long long at = judged->rows->at[place][sample];
    const double *right = bench_rows_right(judged->rows, place, sample);
    const bool is_kept = judged->is_kept[at];
    widen(judged->row, judged->output->plain + at * p->head_dim, p);
    if (judged->output->mapped)
        widen(judged->mapped, judged->output->mapped + at * p->head_dim, p);
    else /* a row of zeros stays one */
        linear_map_apply(&sums->maps[place], judged->mapped, judged->row);
    if (is_kept && judged->output->mapped) judge_product(judged, sums);
    if (is_kept) bench_norms_add(&sums->kept, judged->row, right, p->head_dim);
    if (is_kept) bench_norms_add(&sums->kept_mapped, judged->mapped, right, p->head_dim);
    if (sample >= ABLATE_UNIFORM) {
        bench_norms_add(&sums->last, judged->row, right, p->head_dim);
        return;
    }
    bench_norms_add(&sums->all, judged->row, right, p->head_dim); /* zero where dropped: so the operator has left it */
    bench_norms_add(&sums->all_mapped, judged->mapped, right, p->head_dim);
    sums->mass += mass_of(judged, place, sample);
}

tamis_status ablate_judge(struct ablate_sums *sums, const struct ablate_lists *lists, const struct bench_rows *rows, int place,
                          const struct ablate_output *output)
{
    const tamis_problem *p = lists->problem;
    const int32_t *list = list_of(lists, bench_rows_head(p, place));
    struct judged judged = {.rows = rows, .output = output};
    judged.is_kept = calloc((size_t)p->seq_len, sizeof *judged.is_kept);
    judged.row = malloc(3 * (size_t)p->head_dim * sizeof *judged.row);
    const bool good = judged.is_kept && judged.row;
    if (good) {
        judged.mapped = judged.row + p->head_dim;
        judged.exact = judged.mapped + p->head_dim;
        for (long long i = 0; i < lists->kept; i++) judged.is_kept[list[i]] = true;
        for (int s = 0; s < rows->samples; s++) judge_row(&judged, sums, place, s);
    }
    free(judged.is_kept);
    free(judged.row);
    return good ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for a row");
}

void ablate_sums_read(const struct ablate_sums *sums, struct ablate_row *out, int layers)
{
    out->window_mass = sums->window_mass / layers;
    out->mass = sums->mass / (ABLATE_UNIFORM * BENCH_HEADS * layers);
    out->window_error = bench_norms_error(&sums->last);
    out->error = bench_norms_error(&sums->kept);
    out->error_mapped = bench_norms_error(&sums->kept_mapped);
    out->zeros = bench_norms_error(&sums->all);
    out->zeros_mapped = bench_norms_error(&sums->all_mapped);
}
