/* bench_options.h: which problems `tamis bench` is asked for: lists from its options. Layer: above cli. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include "cli.h"
#include "tamis.h"

#define BENCH_MAX_LIST 16

struct bench_list {
    long long values[BENCH_MAX_LIST];
    int count;
};

struct bench_options {
    struct bench_list lengths, head_dims; /* head_dims empty: those that the stores have */
    struct bench_list dtypes, masks;      /* values of tamis_dtype and tamis_mask */
    double kept[BENCH_MAX_LIST];          /* ratios of the compressed path */
    int kept_count;
    double densities[BENCH_MAX_LIST]; /* of random block patterns */
    int density_count;
    double ratios[BENCH_MAX_LIST]; /* of the operator; none where `coverage` is set */
    int ratio_count;
    tamis_selection selection; /* of the operator; policy TAMIS_COVERAGE or TAMIS_RATIO, the ratio not set */
    int batch;
    int q_heads, kv_heads, rounds;
    long long seed;
};

/* Lists that `tune` has too: of lengths, ratios and dtypes; `fallback` where an option is not given. False: message printed. */
bool bench_options_lengths(struct cli *cli, const char *fallback, struct bench_list *out);
bool bench_options_ratios(struct cli *cli, const char *fallback, double out[BENCH_MAX_LIST], int *count);
bool bench_options_dtypes(struct cli *cli, const char *fallback, struct bench_list *out);

/* Of `bench attention` and of `bench operator`. CLI_OK or CLI_USAGE. */
int bench_options_read(struct bench_options *out, struct cli *cli);
int bench_operator_options_read(struct bench_options *out, struct cli *cli);

/* Every dtype, head dim and length of the options, in this order. */
void bench_options_each(const struct bench_options *options,
                        void (*visit)(void *payload, tamis_dtype dtype, int head_dim, long long seq_len), void *payload);

#endif
