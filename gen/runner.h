/*
 * runner.h: running the operator on host arrays: a plan, its device memory, poisoned outputs, results back on the host, and
 * the time of each step. Layer: above case and the runtime, below cmd_run and cmd_verify.
 */
#ifndef RUNNER_H
#define RUNNER_H

#include "block_mask.h"
#include "case.h"
#include "plan.h"
#include "tamis.h"

enum runner_step { RUNNER_SCORE, RUNNER_SELECT, RUNNER_COMPRESS, RUNNER_ATTEND, RUNNER_DECOMPRESS, RUNNER_STEPS };
extern const char *const runner_step_names[RUNNER_STEPS];

/* On the host; owned. */
struct runner_result {
    uint16_t *bits;    /* (B, Hq, L, D) as stored */
    float *output;     /* the same, widened */
    float *score;      /* (B, Hq, N) */
    float *lse;        /* (B, Hq, L) */
    int32_t *kept;     /* (B) */
    int32_t *indices;  /* (B, Hi, C) */
};

struct runner_times {
    double run_ms;                /* tamis_run */
    double step_ms[RUNNER_STEPS]; /* the steps, one by one */
    double blocks_ms;             /* of a plan with a pattern: making its lists, before attend */
};

struct runner;

/* Copies the inputs to the device. Statuses of tamis_plan_create and tamis_memory_alloc. */
tamis_status runner_open(struct runner **out, tamis_context *context, tamis_store *store, const struct case_input *input);
/* With a plan that has a pattern; of kind TAMIS_PATTERN_HOST_BLOCKS, as bits, the blocks are read from `file`. */
tamis_status runner_open_pattern(struct runner **out, tamis_context *context, tamis_store *store,
                                 const struct case_input *input, const tamis_pattern *pattern, const char *file);
const struct block_mask *runner_blocks(const struct runner *runner); /* those that were read; NULL: none */
/*
 * With a plan that takes one variant and no other; such a plan is not tuned otherwise, and compiles nothing. `force` NULL: any.
 * `pattern`: NULL for none; of kind TAMIS_PATTERN_HOST_BLOCKS, as bits, the blocks are `mask`'s, which is copied; else NULL.
 */
tamis_status runner_open_forced(struct runner **out, tamis_context *context, tamis_store *store,
                                const struct case_input *input, const struct tamisi_force *force, const tamis_pattern *pattern,
                                const struct block_mask *mask);
void runner_close(struct runner *runner);
/* Behind each array lie bytes that no kernel may touch: the name of one whose were, NULL if none. */
tamis_status runner_find_overrun(struct runner *runner, const char **name);
const tamis_plan *runner_plan(const struct runner *runner);

/* tamis_run. Outputs are NaN and -1 in every bit before. */
tamis_status runner_run(struct runner *runner, struct runner_result *result, struct runner_times *times);
/* The five steps, timed each: by events on a GPU, after a first round that is not counted. */
tamis_status runner_steps(struct runner *runner, struct runner_result *result, struct runner_times *times);
void runner_result_free(struct runner_result *result);

/* The first sequence whose kept count is none; -1 if all are within bounds. Only then may lists be read. */
int runner_bad_kept(const struct runner *runner, const struct runner_result *result);

/* What differs in any bit: "output", "kept", ... or NULL. Counts of `a` within bounds. */
const char *runner_difference(const struct runner *runner, const struct runner_result *a, const struct runner_result *b);

#endif
