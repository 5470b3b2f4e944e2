/*
 * bench_ablate_judge.h: what a way of choosing tokens loses, from its lists and its output on the host. Layer: beside
 * bench_ablate.c, whose part it is; above linear_map.
 */
#ifndef BENCH_ABLATE_JUDGE_H
#define BENCH_ABLATE_JUDGE_H

#include "bench_ablate.h"
#include "linear_map.h"

#define ABLATE_UNIFORM 32 /* samples of a head, evenly from the sequence; the others are from its window, which is kept */

/* Of one input, as tamis_select writes them. */
struct ablate_lists {
    const tamis_problem *problem;
    const int32_t *indices; /* (heads, capacity) */
    int heads;
    long long capacity;
    int32_t kept;
};

/* As many as there is room for, in ascending order, the window's at the end: else they cannot be used. */
bool ablate_lists_are_right(const struct ablate_lists *lists);
/* Of the weights that the window's queries give, the part that is kept, as a mean of all query heads. score: (Hq, N). */
double ablate_window_mass(const struct ablate_lists *lists, const float *score);

/* Over layers. */
struct ablate_sums {
    double window_mass, mass;
    struct bench_norms kept, kept_mapped, last, all, all_mapped; /* `last`: of the window */
    struct bench_norms fused;            /* kept rows that a kernel has mapped, against their product in double precision */
    struct linear_map maps[BENCH_HEADS]; /* of the layer at hand */
};

/* The maps as a run takes them, (Hq, D, D); those of heads that are not sampled are the identity. */
void ablate_matrices(uint16_t *out, const struct ablate_sums *sums, const tamis_problem *problem);

/* What a way has written for a head, (L, D) each: without a map, and by a kernel that applied `matrix`, (D, D). */
struct ablate_output {
    const uint16_t *plain;
    const uint16_t *mapped, *matrix; /* or NULL: the map is applied here */
};

/* Outputs are those of the sampled head at `place`. TAMIS_OK; TAMIS_ENOMEM. */
tamis_status ablate_fit(struct linear_map *map, const struct ablate_lists *lists, int place, const uint16_t *output,
                        const uint16_t *dense);
tamis_status ablate_judge(struct ablate_sums *sums, const struct ablate_lists *lists, const struct bench_rows *rows, int place,
                          const struct ablate_output *output);
/* All but the kept count and the times. */
void ablate_sums_read(const struct ablate_sums *sums, struct ablate_row *out, int layers);

#endif
