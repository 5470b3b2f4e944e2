/*
 * linear_map.h: the linear map of rows that comes nearest to other rows, by least squares in double precision. Pure.
 *
 * The map is c I + A: c the factor that does best alone, and A the least of sum over rows |y - c x - A x|^2 + e |A|^2, e the
 * sum of |x|^2 over the rows of one sequence, of several the mean. Rows of one sequence are alike, and say little of what
 * another's are: so strong a pull keeps what only one had in common out of A, and gives way as sequences are added.
 */
#ifndef LINEAR_MAP_H
#define LINEAR_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct linear_map {
    int dim, sequences;
    double *gram;   /* (dim, dim): sum of x x^T; a factor once solved */
    double *matrix; /* (dim, dim), row major: sum of y x^T; the map once solved */
};

bool linear_map_open(struct linear_map *out, int dim); /* false: out of memory */
void linear_map_close(struct linear_map *map);         /* a zeroed one too */
void linear_map_begin(struct linear_map *map); /* before the rows of each sequence */
void linear_map_add(struct linear_map *map, const double *x, const double *y);
void linear_map_solve(struct linear_map *map); /* once, after all rows; the identity if these were none, or zero */
void linear_map_apply(const struct linear_map *map, double *out, const double *x); /* once solved; no overlap */

#endif
