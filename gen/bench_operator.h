/*
 * bench_operator.h: the whole operator timed, in one call and in its steps, after a check of both. Layer: beside bench.c,
 * whose data, rounds and checks it uses; below cmd_bench_operator.c.
 */
#ifndef BENCH_OPERATOR_H
#define BENCH_OPERATOR_H

#include "bench.h"
#include "runner.h"

struct bench_operator_figure {
    struct bench_figure run;  /* tamis_run: its times; `rows` are the most that a sequence keeps; error of the worst head */
    long long kept_least;     /* of the sequences */
    long long capacity;       /* C: the most there is room for */
    size_t workspace_bytes;
    bool steps;               /* the next two are known: a plan that may drop tokens */
    struct bench_time step[RUNNER_STEPS];
    double rest_ms;           /* score, select and compress in one go: what comes before attention */
    char wrong[160];          /* what is wrong, where run.right is false */
};

/* As bench_measure. `bench_case` may be of any batch and policy. */
tamis_status bench_operator_measure(struct bench *bench, struct bench_operator_figure *out,
                                    const struct bench_case *bench_case);

#endif
