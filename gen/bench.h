/*
 * bench.h: attention timed: random data on the device, a check of the result, rounds by events. Which problems, and what is
 * printed of them, is the command's matter. Layer: above equal, stopwatch, nvml and the runtime; below cmd_bench.c.
 *
 * A figure is the time of the attention kernel alone: tamis_run of a dense plan, which is that kernel and nothing else
 * where no other output is asked for, or tamis_attend on compact rows.
 */
#ifndef BENCH_H
#define BENCH_H

#include "bench_peers.h"
#include "block_mask.h"
#include "nvml.h"
#include "stopwatch.h"
#include "store.h"

/* One problem, of batch 1. A policy of TAMIS_COUNT: the compressed path on as many rows as its plan keeps. */
struct bench_case {
    tamis_problem problem;
    tamis_store *store; /* NULL for the CPU */
    double density;     /* of a random block pattern, each head its own; 0: none */
};

struct bench_figure {
    long long rows; /* that attend: L, or the kept ones */
    double ms, least_ms, most_ms; /* the median of the rounds, and their ends */
    double flops;   /* of the two products; causal: half of all pairs; of a pattern's blocks alone, half of the diagonal ones */
    long long blocks; /* of a pattern, over all heads; 0: there is none */
    double error;   /* of the worst head that was checked, by equal.h's norm over its sampled rows */
    double error_limit;
    bool right;     /* error within its limit; else nothing was timed, of those measured with it neither */
    int sm_mhz;     /* in the last round; 0: unknown */
    char variant[TAMISI_SYMBOL_SIZE];
};

struct bench {
    tamis_context *context;
    tamis_stream stream;
    struct stopwatch watch;
    struct nvml nvml;
    bool watch_open;
    unsigned long long random; /* the generator's state */
    int rounds;
    bool sparing; /* a check looks at fewer heads and rows: where every candidate is checked, at every length */
    uint16_t *pool; /* random numbers that tensors are filled from */
    size_t pool_count;
    tamis_dtype pool_dtype;
};

#define BENCH_MAX_ROUNDS 1000
#define BENCH_MAX_PARTS (STOPWATCH_MARKS - 1)

tamis_status bench_begin(struct bench *out, tamis_context *context, int rounds, unsigned long long seed);
void bench_end(struct bench *bench); /* after a failed bench_begin too */

#define BENCH_TOGETHER 2 /* cases at most that are measured in turns */

/*
 * One case, or several to be compared with each other: a round runs each of them once. TAMIS_OK where there are `count`
 * figures, right or not; statuses of tamis_plan_create, tamis_memory_alloc and tamis_run.
 */
tamis_status bench_measure(struct bench *bench, struct bench_figure *out, const struct bench_case *cases, int count);

struct bench_key bench_key_of(const struct bench_case *bench_case, const struct bench_figure *figure);
double bench_flops(const tamis_problem *problem, long long rows);
double bench_median(double *values, int count); /* sorts them; the upper of two middle ones */
void bench_name_variant(char out[TAMISI_SYMBOL_SIZE], const tamis_plan *plan); /* of its attention */

struct bench_time {
    double ms, least_ms, most_ms; /* the median of the rounds, and their ends */
};

/*
 * After a pause two rounds to warm up, then those that count. `round` puts its work on the stream with a mark before it,
 * after it and between its parts. sm_mhz as in a figure.
 */
tamis_status bench_time_rounds(struct bench *bench, struct bench_time *parts, int part_count, int *sm_mhz,
                               tamis_status (*round)(void *payload), void *payload);

/* ---- bench_data.c: random tensors */

/* (heads, rows, head_dim) of normally distributed numbers at `device`. `shift` tells tensors apart: rows of different ones
   share no part at the same place. */
tamis_status bench_fill(struct bench *bench, void *device, const tamis_problem *problem, int heads, long long rows,
                        int shift);
tamis_status bench_poison(struct bench *bench, void *device, size_t bytes); /* NaN in either format */
unsigned long long bench_random(unsigned long long *state);
/* A number of [0, 1) for a thing that is named by two others. */
double bench_chance(unsigned long long seed, unsigned long long what, unsigned long long which);

/* ---- bench_check.c */

#define BENCH_HEADS 3
#define BENCH_ROWS 8 /* of a head; the last one among them */

/*
 * What sampled rows must be, kept from one check to the next where many results of the same inputs are checked: computing
 * them takes far longer than the runs do. Zeroed, it holds nothing.
 */
struct bench_memory {
    struct bench_reference {
        int32_t *list;     /* that it was computed by; NULL: every row attends */
        long long attends; /* rows in all; 0: nothing is known of this head */
        long long rows[BENCH_ROWS]; /* that were sampled, as places in the list */
        int samples;
        double *values; /* (samples, head_dim) */
    } heads[BENCH_HEADS];
};
void bench_memory_forget(struct bench_memory *memory); /* the inputs are others */

/* Contiguous (B, heads, rows, head_dim) tensors on the device, of which one sequence is looked at. */
struct bench_arrays {
    const void *q, *k, *v, *output;
    int kv_heads; /* of k and v */
    long long rows;
    int sequence;
    const int32_t *lists; /* on the host, (index_heads, capacity): the rows that attend, `kept` of each; NULL: all do */
    int index_heads;
    long long capacity, kept;
    struct bench_memory *memory; /* of these inputs and this problem; NULL: none is kept */
    const struct block_mask *mask; /* blocks that are attended to, the diagonal ones among them; NULL: all. Without lists */
};

/*
 * Sampled rows of some heads against double precision: sets error, error_limit and right. A NaN anywhere is an error of NaN;
 * a list out of order or without the window, or a row that was dropped and is not zero, one without bound.
 */
tamis_status bench_check(struct bench *bench, struct bench_figure *figure, const tamis_problem *problem,
                         const struct bench_arrays *arrays);

#endif
