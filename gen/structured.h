/*
 * structured.h: random inputs whose attention looks like a model's. Layer: beside bench_data.c, whose numbers it uses.
 *
 * A logit is the sum of these, all in natural units, of query i and key j <= i of query head h and its KV head g:
 *   noise            normal, of deviation 1 or a little less: what is left of random Q and K
 *   sinks            `sink` for the first `sinks` keys, for every query
 *   a local band     local * s_h / F * sum over f < F of cos(t_f (i - j)), t_f = 2.18^-f, F = 16: s_h * local at i = j, and
 *                    about s_h * local / 12.5 less each time that the distance grows e-fold
 *   heavy hitters    hitter * r_h for the keys of a random set, one in `spacing`, of KV head g; a part `own` of it belongs to
 *                    the `layer` alone, the rest to all layers
 * with s_h and r_h from 0.5 to 1.5, random for each query head: some heads look about them, others at the same few tokens.
 * They are made by 2 + 2 F of the elements of a row, in place of random ones; the rest of a row, and V, are random.
 *
 * With the parameters below, 8 query and 2 KV heads of head_dim 128, coverage 0.005 drops 26 % of all pairs at 4K tokens and
 * 53 % at 128K; arXiv 2602.03216 reports 17 and 54 % of Llama-3.1-8B's attention maps.
 */
#ifndef STRUCTURED_H
#define STRUCTURED_H

#include "bench.h"

struct structured {
    double sink, local, hitter;
    int sinks, spacing;
    double own;
    int layer;
};

/* What `bench compose` takes unless told otherwise. */
#define STRUCTURED_INIT {6.0, 24.0, 3.0, 4, 64, 0.0, 0}
#define STRUCTURED_FREQUENCIES 16
#define STRUCTURED_ELEMENTS (2 + 2 * STRUCTURED_FREQUENCIES)

/* Q (Hq, L, D), K and V (Hkv, L, D) on the device, of batch 1. The same seed gives the same Q and K structure. */
tamis_status structured_fill(struct bench *bench, const struct structured *structure, const tamis_problem *problem, void *q,
                             void *k, void *v, unsigned long long seed);

/* The elements of one row that make the structure. */
void structured_query(float out[STRUCTURED_ELEMENTS], const struct structured *structure, unsigned long long seed, int head,
                      long long row);
void structured_key(float out[STRUCTURED_ELEMENTS], const struct structured *structure, unsigned long long seed, int kv_head,
                    long long row, int head_dim, double scale);

#endif
