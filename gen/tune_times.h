/*
 * tune_times.h: what was measured of one candidate, round by round, and what it comes to. Pure.
 *
 * A GPU's clock follows its load and temperature: the same kernel takes 5 % more or less from one second to the next, where
 * two kernels timed at once differ by the same part to a thousandth. So a candidate is judged beside the default of the same
 * turn: by the median of the quotients, in units of the default's median.
 */
#ifndef TUNE_TIMES_H
#define TUNE_TIMES_H

#include "tune.h"

#define TUNE_MOST_ROUNDS 128 /* that are kept of one candidate */

struct tune_times {
    double us[TUNE_MOST_ROUNDS], cold_us[TUNE_MOST_ROUNDS], warm_us[TUNE_MOST_ROUNDS];
    int turns[TUNE_MOST_ROUNDS]; /* in which each was measured, ascending */
    int rounds;
};

/* A round of this turn, which is a later one than those before; behind the last that there is room for it is forgotten. */
void tune_times_add(struct tune_times *times, const struct tune_round *round, int turn);

/*
 * Into the row's median_us, mad_us, cold_us, warm_us and rounds, of which there is one or more. `beside`: the default's times,
 * or NULL; turns that both have had count, or, where there are none, all of the candidate's by themselves. The default beside
 * itself deviates by nothing.
 */
void tune_times_result(struct tamisi_timing *row, const struct tune_times *times, const struct tune_times *beside);

#endif
