/*
 * bench_ablate.h: ways to choose tokens set beside each other at the same budgets: the three scopes of the operator, and
 * baselines whose ranks a host puts between the score and the select step. Layer: beside bench.c and bench_rows.c, whose data,
 * rounds and samples it uses, and structured; below cmd_bench_ablate.c.
 */
#ifndef BENCH_ABLATE_H
#define BENCH_ABLATE_H

#include "bench_options.h"
#include "bench_rows.h"
#include "structured.h"

enum ablate_way {
    ABLATE_HEAD, ABLATE_KV_GROUP, ABLATE_LAYER, /* tamis_scope's, which the operator has in one call */
    ABLATE_RANDOM,                              /* each head another random set in each layer */
    ABLATE_RECENT,                              /* the last tokens */
    ABLATE_EVICT,                               /* what the first layer chooses by scope layer, in every layer */
    ABLATE_WAYS
};
#define ABLATE_SCOPES 3
extern const char *const ablate_names[ABLATE_WAYS]; /* "head", "kv_group", "layer", "random", "recent", "evict" */

struct ablate_case {
    tamis_problem problem; /* of batch 1, causal; policy TAMIS_RATIO, the ratio and the scope not set */
    double ratios[BENCH_MAX_LIST];
    int ratio_count;
    struct structured structure; /* its layer not set */
    int layers;                  /* in turn, each of a structure of its own */
    int fits;                    /* inputs that maps are fitted to in each, before one that is judged */
    tamis_store *store;          /* NULL for the CPU */
};

/* Means over layers; relative errors over the rows of all layers. A row's weights are those of dense attention. */
struct ablate_row {
    long long kept;      /* tokens of a head */
    double window_mass;  /* of the window's queries, all heads: weight on kept tokens, by the score step */
    double mass;         /* of sampled rows, kept or not: the same in double precision */
    double window_error; /* of sampled rows of the window, which all ways keep, against dense attention's */
    double error;        /* of sampled rows that are kept: of the window, and of all */
    double error_mapped; /* of the same with each head's linear map */
    double zeros;        /* of all sampled rows: zero where dropped */
    double zeros_mapped; /* of the same with the map on kept ones */
    struct bench_time time; /* of the one call, on the last layer's inputs; 0 of a baseline, which has none */
    struct bench_time mapped_time; /* of the same with maps, in turns with it; 0 where they are applied on the host */
};

struct ablate_figure {
    struct ablate_row ways[ABLATE_WAYS];
    struct bench_time dense; /* in turns with those */
    int sm_mhz;              /* as in a bench_figure */
};

struct ablate_figures {
    struct ablate_figure ratios[BENCH_MAX_LIST]; /* in the order of the case's */
    double dense_error, error_limit;             /* of dense attention, over sampled rows */
    bool fused;      /* maps are applied by the attention kernel, in the dtype; else on the host, as it has none that does */
    bool right;      /* it is within it, lists are in order, maps were applied, and no row is NaN; else nothing was timed */
    char wrong[160]; /* what is wrong, where it is not right */
};

/* TAMIS_OK where there are figures, right or not; statuses of tamis_plan_create, tamis_memory_alloc and the steps. */
tamis_status bench_ablate_measure(struct bench *bench, struct ablate_figures *out, const struct ablate_case *ablate,
                                  unsigned long long seed);

/* ---- bench_ablate_rank.c: what a baseline chooses by */

/*
 * Ranks for tamis_select of scope head (`random`) or layer (the others): (Hq or 1, N), N the tokens before the window, none
 * negative. `first`: what scope layer ranked by in layer 0, for `evict`. Pure.
 */
void ablate_rank(float *out, enum ablate_way way, const tamis_problem *problem, const float *first, int layer,
                 unsigned long long seed);
tamis_scope ablate_scope(enum ablate_way way); /* whose plan it runs by */

#endif
