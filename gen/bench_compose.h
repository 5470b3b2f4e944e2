/*
 * bench_compose.h: token selection and a block pattern, alone and together, against dense attention on the same structured
 * inputs: the time of each in turns, and how far each one's output is from dense attention's. Layer: beside bench.c, whose data
 * and rounds it uses, and structured; below cmd_bench_compose.c.
 */
#ifndef BENCH_COMPOSE_H
#define BENCH_COMPOSE_H

#include "bench.h"
#include "structured.h"

enum compose_way { COMPOSE_DENSE, COMPOSE_PATTERN, COMPOSE_TOKENS, COMPOSE_BOTH, COMPOSE_WAYS };
extern const char *const compose_names[COMPOSE_WAYS]; /* "dense", "pattern", "tokens", "both" */

struct compose_case {
    tamis_problem problem; /* of batch 1, causal; its selection is that of `tokens` and `both` */
    tamis_pattern pattern;
    const char *blocks;    /* the file of TAMIS_PATTERN_HOST_BLOCKS, as bits; else NULL */
    struct structured structure;
    tamis_store *store; /* NULL for the CPU */
};

struct compose_figure {
    struct bench_time time[COMPOSE_WAYS]; /* of the one call: making blocks and choosing tokens included */
    struct bench_time lists;              /* of making the pattern's lists for all tokens, a part of `pattern` */
    long long kept[COMPOSE_WAYS];         /* tokens */
    double error[COMPOSE_WAYS];           /* against dense attention in double precision, over sampled rows that are kept */
    double density;                       /* of `pattern`: blocks that are listed, as part of those up to the diagonal */
    double error_limit;                   /* of dense attention */
    bool right;                           /* dense attention is within it, and no row is NaN; else nothing was timed */
    int sm_mhz;                           /* as in a bench_figure */
};

/* TAMIS_OK where there is a figure, right or not; statuses of tamis_plan_create_with, tamis_memory_alloc and tamis_run. */
tamis_status bench_compose_measure(struct bench *bench, struct compose_figure *out, const struct compose_case *compose,
                                   unsigned long long seed);

#endif
