/*
 * gpu_case.h: one random problem on a GPU, for check_gpu.c: inputs on both sides, poisoned and guarded outputs, and rows of
 * the result recomputed in double precision. Runs through tamis.h alone; half.h converts elements.
 */
#ifndef GPU_CASE_H
#define GPU_CASE_H

#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

/* An array on the device with its copy on the host. The device one has poisoned guard bytes on both sides. */
struct gpu_array {
    void *host;
    char *device; /* what kernels get; the guards lie around it */
    size_t bytes;
};

struct gpu_case {
    tamis_problem problem;
    tamis_context *context; /* borrowed */
    tamis_plan *plan;
    struct gpu_array q, k, v, output, lse, score, kept, indices, workspace;
    struct gpu_array map; /* (Hq, D, D) where `has_map` is set */
    tamis_run_args args;
    tamis_stream stream; /* borrowed; NULL: the default stream */
    const tamis_plan_options *options; /* borrowed; NULL: the defaults */
    /* Of a plan with a pattern: does row `row` of a head, counted through all sequences, see the row `key` before it? */
    bool (*sees)(const void *pattern, long long head, int row, int key); /* NULL: all rows up to its own */
    const void *pattern;
    bool has_map;        /* each head's rows pass a random matrix */
    double sharpness;    /* of the last queries' attention: how uneven the scores are */
    double climb;        /* log2 by which a row's logits grow from the last key to the first, beside what is random */
    int spike_every;     /* not 0: of so many keys one has logits a thousand (log2) above the others */
    unsigned long long seed;
};

/* Allocate, fill inputs, make the plan. Prints and returns false on failure, as all of these do. */
bool gpu_case_open(struct gpu_case *c, tamis_context *context, tamis_store *store);
void gpu_case_close(struct gpu_case *c);
bool gpu_case_fill(struct gpu_case *c);   /* new inputs from c->seed, copied to the device */
bool gpu_case_poison(struct gpu_case *c); /* outputs to NaN, ints to 0x7f7f7f7f, guards to 0xa5 */
bool gpu_case_poison_rows(struct gpu_case *c); /* output and lse alone */
bool gpu_case_run(struct gpu_case *c);    /* tamis_run and wait */
bool gpu_case_fetch(struct gpu_case *c);  /* outputs to the host; checks that guards are whole */

/*
 * Check what was fetched against the definition, given what was selected: kept counts in range, indices ascending with the
 * window at their end, dropped rows bitwise zero with lse -inf, and `samples` rows of each head against double precision
 * within operator.md's tolerance, over the sampled rows together. Threads: one a core.
 */
bool gpu_case_check(const struct gpu_case *c, int samples);

/*
 * Check the selection itself against the CPU backend in double precision: kept counts and index lists by operator.md's
 * "equal".
 */
bool gpu_case_check_selection(const struct gpu_case *c);

/* gpu_check_layouts.c. On a problem: tokens before heads; a head stride of 0; one of two sequences, and each of them alone; a
   plan from a warm store in under 10 ms. */
bool gpu_check_tokens_first(const tamis_problem *problem, bool has_map, tamis_context *context, tamis_store *store);
bool gpu_check_shared_head(const tamis_problem *problem, tamis_context *context, tamis_store *store);
bool gpu_check_batch(const tamis_problem *problem, unsigned long long seed, tamis_context *context, tamis_store *store);
bool gpu_check_warm_plan(const tamis_problem *problem, tamis_context *context, const char *path);

/* gpu_check_random.c. A series of awkward problems, each given by its number. The tally, over the series: how many were what
   they are meant to be, without which the checks say little. */
struct gpu_tally {
    int mixed;       /* batches in which one sequence drops tokens and another none */
    int all_but_one; /* problems in which a sequence keeps L - 1 */
    int ties;        /* lists in which the lower index had to win */
    int large;       /* problems with logits in the hundreds */
};
void gpu_random_problem(tamis_problem *out, int number);
bool gpu_check_random(int number, tamis_context *context, tamis_store *store, struct gpu_tally *tally);

/* gpu_check_select.c. tamis_select on made-up lists of many kinds, `shift` of them left out at the beginning; tokens exactly,
   a coverage's kept counts within 1e-6 of tau. */
bool gpu_check_select(const tamis_problem *problem, int shift, tamis_context *context, tamis_store *store);

/* gpu_check_drift.c: samples of representation drift, by number. */
int gpu_check_drift_count(void);
void gpu_check_drift_name(char *out, size_t size, int number);
bool gpu_check_drift(int number, tamis_context *context, tamis_store *store);
/* Captured and replayed; `cuda` is libcuda, and the device's context is current. */
bool gpu_check_drift_graph(tamis_context *context, tamis_store *store, void *cuda);

/* gpu_check_graph.c. Of a problem by coverage, captured once and replayed on sparse and on dense data; `cuda` as above. */
bool gpu_check_graph(const tamis_problem *problem, tamis_context *context, tamis_store *store, void *cuda);
void *gpu_graph_cuda(int device); /* libcuda, the device's context being current, as captures, unlike tamis, want it; or NULL */

/* gpu_check_blocks.c. A series of problems with block patterns in all forms, on all tokens and on those kept; each in one call
   and, to the same bits, in steps. How many rows saw no key is counted up: without such the checks say less. */
bool gpu_check_blocks(int number, tamis_context *context, tamis_store *store, long long *blind_rows);
void gpu_blocks_name(char *out, size_t size, int number);

/* gpu_check_maps.c. A series of problems with an output map, each in one call and in steps, and by the identity to the bits of
   a plan without a map: for stores in which the default of both has the same tiles. */
bool gpu_check_maps(int number, tamis_context *context, tamis_store *store);
void gpu_maps_name(char *out, size_t size, int number);

/* gpu_check_patterns.c. A series of problems with patterns that are made of Q and K. The tally: blocks up to the diagonal that
   brute force decided, those of them that are left out, and those that were too near a limit, which say nothing. */
struct gpu_patterns_tally {
    long long decided, left_out, either;
};
bool gpu_check_patterns(int number, tamis_context *context, tamis_store *store, struct gpu_patterns_tally *tally);
void gpu_patterns_name(char *out, size_t size, int number);

unsigned long long gpu_random(unsigned long long *state);
float gpu_element(tamis_dtype dtype, unsigned short bits);
void gpu_elements(double *out, tamis_dtype dtype, const unsigned short *bits, int count);

#endif
