/*
 * tune_times.c: see tune_times.h.
 */
#include "tune_times.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* Leaves the values as they are. Of two middle ones the mean. */
static double median(const double *values, int count)
{
    double sorted[TUNE_MOST_ROUNDS];
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

void tune_times_add(struct tune_times *times, const struct tune_round *round, int turn)
{
    if (times->rounds == TUNE_MOST_ROUNDS) return;
    times->us[times->rounds] = round->us;
    times->cold_us[times->rounds] = round->cold_us;
    times->warm_us[times->rounds] = round->warm_us;
    times->turns[times->rounds++] = turn;
}

/* Of the turns that both have had; returns how many. */
static int quotients(double *out, const struct tune_times *times, const struct tune_times *beside)
{
    int count = 0;
    for (int r = 0, s = 0; r < times->rounds && s < beside->rounds;) {
        if (times->turns[r] == beside->turns[s])
            out[count++] = times->us[r++] / beside->us[s++];
        else if (times->turns[r] < beside->turns[s])
            r++;
        else
            s++;
    }
    return count;
}

void tune_times_result(struct tamisi_timing *row, const struct tune_times *times, const struct tune_times *beside)
{
    double values[TUNE_MOST_ROUNDS], deviations[TUNE_MOST_ROUNDS], unit = 1;
    int count = beside ? quotients(values, times, beside) : 0;
    if (count > 0) {
        unit = median(beside->us, beside->rounds);
    } else {
        count = times->rounds;
        memcpy(values, times->us, (size_t)count * sizeof *values);
    }
    const double middle = median(values, count);
    for (int r = 0; r < count; r++) deviations[r] = fabs(values[r] - middle);
    row->median_us = middle * unit;
    row->mad_us = median(deviations, count) * unit;
    row->cold_us = median(times->cold_us, times->rounds);
    row->warm_us = median(times->warm_us, times->rounds);
    row->rounds = times->rounds;
}
