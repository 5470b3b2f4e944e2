/*
 * cpu_tile.h: the arithmetic of score and attend, a tile of rows at a time, in float and in double. Single-threaded, no
 * allocation: scratch is on the stack, at most some 200 KiB. Which tiles there are, and on which thread, is decided in
 * cpu_score.c and cpu_attend.c.
 *
 * Every sum has one order, fixed by positions alone: neither threads nor the rest of the batch can change a bit.
 */
#ifndef TAMISI_CPU_TILE_H
#define TAMISI_CPU_TILE_H

#include "tamis.h"

#include <stdbool.h>

#define TAMISI_CPU_TILE 32           /* rows of queries, and of keys, worked on together */
#define TAMISI_CPU_HEAD_DIM_MAX 256

/* Rows of one (sequence, head); row i lies at data + i * stride. */
struct tamisi_cpu_rows {
    uint16_t *data;
    long long stride; /* in elements */
};

/* Attention of one (sequence, query head) over `count` rows. */
struct tamisi_cpu_attend {
    struct tamisi_cpu_rows q, k, v, output;
    float *lse;             /* or NULL */
    const int32_t *indices; /* row i of q, k, v, output and lse stands at indices[i]; NULL: at i */
    long long count;
    int head_dim;
    tamis_dtype dtype;
    double scale; /* of the logits */
    bool causal;  /* else each row sees all */
    const uint16_t *output_map; /* (head_dim, head_dim) that rows are multiplied with, once rounded; NULL: none */
};

/* The list of one query block, as block_args.h has it. */
struct tamisi_cpu_list {
    const int32_t *entries;
    int count;
    const uint32_t *masks;
    int mask_count;
};

/* The score of one (sequence, query head). */
struct tamisi_cpu_score {
    struct tamisi_cpu_rows q, k; /* L rows */
    double *lse;                 /* (W): first pass to second, natural log */
    float *score;                /* (N) */
    long long seq_len;           /* L */
    int window;                  /* W */
    int head_dim;
    tamis_dtype dtype;
    double scale;
};

struct tamisi_cpu_arithmetic {
    const char *name; /* "fp32" */
    /* Rows first .. first + TILE - 1 of the output and lse; `first` is a multiple of TILE. */
    void (*attend)(const struct tamisi_cpu_attend *attend, long long first);
    /* The same, causal, on the blocks of the list of the rows' query block. */
    void (*attend_list)(const struct tamisi_cpu_attend *attend, const struct tamisi_cpu_list *list, long long first);
    /* lse of the window's queries first .. first + TILE - 1 over all keys that they see. */
    void (*score_lse)(const struct tamisi_cpu_score *score, int first);
    /* score of the keys first .. first + TILE - 1: the mean of their probabilities over the window's queries. */
    void (*score_mean)(const struct tamisi_cpu_score *score, long long first);
};

extern const struct tamisi_cpu_arithmetic tamisi_cpu_float;
extern const struct tamisi_cpu_arithmetic tamisi_cpu_double;

#endif
