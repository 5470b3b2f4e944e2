/*
 * linear_map.c: see linear_map.h. The normal equations, by the factor of Cholesky: what is added to their diagonal keeps them
 * positive.
 */
#include "linear_map.h"

#include <math.h>
#include <stdlib.h>

bool linear_map_open(struct linear_map *out, int dim)
{
    const size_t count = (size_t)dim * (size_t)dim;
    *out = (struct linear_map){.dim = dim};
    out->gram = calloc(count, sizeof *out->gram);
    out->matrix = calloc(count, sizeof *out->matrix);
    return out->gram && out->matrix;
}

void linear_map_close(struct linear_map *map)
{
    free(map->gram);
    free(map->matrix);
    *map = (struct linear_map){.dim = 0};
}

void linear_map_begin(struct linear_map *map) { map->sequences++; }

void linear_map_add(struct linear_map *map, const double *x, const double *y)
{
    const int dim = map->dim;
    for (int i = 0; i < dim; i++) {
        double *gram = map->gram + (long long)i * dim, *matrix = map->matrix + (long long)i * dim;
        for (int j = 0; j < dim; j++) {
            gram[j] += x[i] * x[j];
            matrix[j] += y[i] * x[j];
        }
    }
}

/* The lower factor in place of the lower half. */
static void factor(double *a, int dim)
{
    for (int i = 0; i < dim; i++)
        for (int j = 0; j <= i; j++) {
            double sum = a[i * dim + j];
            for (int k = 0; k < j; k++) sum -= a[i * dim + k] * a[j * dim + k];
            a[i * dim + j] = i == j ? sqrt(sum) : sum / a[j * dim + j];
        }
}

/* x of factor factor^T x = b, in place of b. */
static void substitute(const double *factor, double *b, int dim)
{
    for (int i = 0; i < dim; i++) {
        for (int k = 0; k < i; k++) b[i] -= factor[i * dim + k] * b[k];
        b[i] /= factor[i * dim + i];
    }
    for (int i = dim - 1; i >= 0; i--) {
        for (int k = i + 1; k < dim; k++) b[i] -= factor[k * dim + i] * b[k];
        b[i] /= factor[i * dim + i];
    }
}

static double trace_of(const double *a, int dim)
{
    double sum = 0;
    for (int i = 0; i < dim; i++) sum += a[i * dim + i];
    return sum;
}

void linear_map_solve(struct linear_map *map)
{
    const int dim = map->dim;
    const double squares = trace_of(map->gram, dim), scale = squares > 0 ? trace_of(map->matrix, dim) / squares : 1;
    for (int i = 0; i < dim * dim; i++) map->matrix[i] -= scale * map->gram[i];
    for (int i = 0; i < dim && squares > 0; i++) map->gram[i * dim + i] += squares / map->sequences;
    if (squares > 0) factor(map->gram, dim);
    for (int i = 0; i < dim; i++) {
        if (squares > 0) substitute(map->gram, map->matrix + (long long)i * dim, dim);
        map->matrix[i * dim + i] += scale;
    }
}

void linear_map_apply(const struct linear_map *map, double *out, const double *x)
{
    for (int i = 0; i < map->dim; i++) {
        out[i] = 0;
        for (int j = 0; j < map->dim; j++) out[i] += map->matrix[(long long)i * map->dim + j] * x[j];
    }
}
