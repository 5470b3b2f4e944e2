/*
 * cpu_case.h: one problem on the CPU backend for the tests: inputs, poisoned and guarded outputs, the operator run in one
 * call and in its steps, and a brute-force reference in double. Uses the public API and gen/equal.h.
 */
#ifndef CPU_CASE_H
#define CPU_CASE_H

#include "equal.h"
#include "tamis.h"

#include <check.h>
#include <stdbool.h>

struct cpu_case {
    tamis_problem problem;
    tamis_precision precision;
    int threads;
    bool token_major; /* q, k, v and output lie as (B, L, H, D) */
    unsigned long long seed;

    tamis_context *context;
    tamis_plan *plan;
    long long capacity, candidates;
    int index_heads, compact_heads;
    uint16_t *q, *k, *v; /* (B, H, L, D), contiguous */

    /* Of the last run. */
    uint16_t *output; /* (B, Hq, L, D) */
    float *wide;      /* the same as float */
    float *lse, *score;
    int32_t *kept, *indices;

    /* Of cpu_case_reference. */
    float *reference_score, *reference_output;
    int32_t *reference_kept, *reference_indices;
    long long reference_capacity;
};

#define CPU_CASE_INIT {.problem = TAMIS_PROBLEM_INIT, .threads = 2, .seed = 1}

unsigned long long cpu_random(unsigned long long *state);

/* Fill inputs with random numbers from the seed, unless a test or cpu_case_load has made them; make context and plan. */
void cpu_case_open(struct cpu_case *c);
void cpu_case_close(struct cpu_case *c);

/* Problem, inputs and reference of tests/reference/<name>; before cpu_case_open. */
void cpu_case_load(struct cpu_case *c, const char *name);

/* The reference of any other case, by brute force; the output's is left to equal_check. */
void cpu_case_reference(struct cpu_case *c);

void cpu_case_run(struct cpu_case *c);   /* tamis_run */
void cpu_case_steps(struct cpu_case *c); /* the five steps; also that they write what they should and nothing else */

/* The last run against the reference; fails the test with the checker's message. */
void cpu_case_check(const struct cpu_case *c, struct equal_report *report);

/* Log-sum-exp of some rows against double, -inf in all dropped ones. */
void cpu_case_check_lse(const struct cpu_case *c);

/* The last runs of two cases of one shape have the same bits. */
void cpu_case_assert_same(const struct cpu_case *a, const struct cpu_case *b);

/* Memory whose end is guarded: filled with 0xff, a NaN in every type, and checked by guarded_free. */
void *guarded_alloc(size_t bytes);
void guarded_check(const void *memory);
void guarded_free(void *memory);

/* Elements of (B, heads, L or N, ...) arrays of a case. */
size_t cpu_case_elements(const struct cpu_case *c, int heads);

#endif
