/*
 * tune_case.h: is a candidate right on a small and awkward problem? Two sequences of a length that no tile divides, poisoned
 * outputs, bytes behind each array that must stay as they are, and every row of the result, and its log-sum-exp, against
 * double precision on the CPU. Layer: above runner and equal, below tune_serve.c.
 */
#ifndef TUNE_CASE_H
#define TUNE_CASE_H

#include "case.h"
#include "plan.h"
#include "tune.h"

struct tune_case {
    bool made;
    struct case_input input;
    tamis_pattern pattern;  /* HOST_BLOCKS with a mask, else NONE */
    struct block_mask mask; /* of the compact rows' blocks */
    float *score, *lse, *output; /* the reference's, owned */
    int32_t *kept, *indices;
    long long capacity;
};

/* Of a spec's problem with the policy that is asked for: dense, ratio or coverage. `listed`: on blocks, of which half are. */
tamis_status tune_case_make(struct tune_case *out, const tamis_problem *problem, tamis_policy policy, bool listed);
void tune_case_free(struct tune_case *made);

/* TAMIS_OK with what is wrong in `why`, "" if nothing; a failure is the candidate's. */
tamis_status tune_case_check(const struct tune_case *made, tamis_context *context, tamis_store *store,
                             const struct tamisi_force *force, char why[TUNE_WHY]);

#endif
