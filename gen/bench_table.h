/*
 * bench_table.h: figures printed: a row or a JSON object each, with the ratios to their peers. Measures nothing. Layer: above
 * bench and cli, below cmd_bench.c.
 */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include "bench.h"
#include "cli.h"

struct bench_table {
    struct cli *cli;
    const struct bench_peers *peers;
    const char *device, *gpu; /* "cuda:0", its name; gpu NULL: the CPU */
    int rounds;
    bool kept;    /* columns of the compressed path */
    bool density; /* of block patterns */
    struct cli_table table;
    const char *heads[CLI_TABLE_COLUMNS];
    char backends[BENCH_MAX_BACKENDS][16]; /* as heads */
};

/* The first members are set; `peers` must outlive the table. */
void bench_table_open(struct bench_table *table);
/*
 * `dense_ms`: of a dense problem of a compressed one's length, or what a pattern's blocks would take as part of all blocks;
 * 0: none.
 */
void bench_table_add(struct bench_table *table, const struct bench_case *bench_case, const struct bench_figure *figure,
                     double dense_ms);
void bench_table_close(struct bench_table *table); /* prints what is not printed */

/* A problem in words, for messages: "head_dim 128, seq_len 8192, heads 32/8, bf16, causal". */
void bench_describe(char *out, size_t room, const struct bench_case *bench_case);

#endif
