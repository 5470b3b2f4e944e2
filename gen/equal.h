/*
 * equal.h: whether a result of the operator equals its float64 reference, by the rules of the operator's definition. Pure:
 * arrays in, a verdict with figures out. Used by `tamis verify` and by the tests of both backends.
 *
 *   - kept[b] is the reference's, unless the cumulative score passes the coverage within 1e-6 relative between the two
 *   - a list holds the `keep` tokens of the largest pooled score and the window; which of the tokens within 2^-12 relative
 *     of the list's threshold are among them is free
 *   - rows of dropped tokens are zero in every bit; no NaN anywhere
 *   - each query head's ||output - reference|| / ||reference|| with the same indices is at most 4e-3 (bf16) or 1e-3 (fp16)
 */
#ifndef EQUAL_H
#define EQUAL_H

#include "block_mask.h"
#include "tamis.h"

#include <stdbool.h>

/* The inputs, and what float64 arithmetic gives for them. N = max(L - W, 0); Hi by the scope. */
struct equal_case {
    const tamis_problem *problem;
    const uint16_t *q, *k, *v; /* (B, Hq or Hkv, L, D), contiguous */
    const float *score;        /* (B, Hq, N), before pooling; NULL where the policy is TAMIS_DENSE or N is 0 */
    const int32_t *kept;       /* (B) */
    const int32_t *indices;    /* (B, Hi, capacity), or NULL with output */
    long long capacity;
    const float *output; /* (B, Hq, L, D), or NULL: rows are computed here, as they are where the indices differ */
    const struct block_mask *mask; /* of B * Hq heads: blocks of a list's entries that are attended to; NULL: all */
};

struct equal_result {
    const int32_t *kept;    /* (B) */
    const int32_t *indices; /* (B, Hi, capacity) */
    long long capacity;
    const float *output; /* (B, Hq, L, D), widened without change */
};

struct equal_report {
    bool equal;
    char message[240];          /* the first thing that is not equal; "" if none */
    int kept_differ;            /* sequences whose count is another, allowed or not */
    long long positions_differ; /* tokens of a list that its threshold does not choose so, allowed or not */
    double threshold_distance;  /* the largest relative distance of such a token from the threshold */
    double output_error;        /* of the worst head */
    double output_limit;        /* what it may be */
    int heads_computed;         /* heads whose reference rows were computed here: all, or 64 of more than 2048 */
};

/* TAMIS_OK where a verdict was reached, equal or not; TAMIS_ENOMEM. */
tamis_status equal_check(struct equal_report *report, const struct equal_case *reference,
                         const struct equal_result *result);

/*
 * One row of step 6 in float64: entry i of a list of positions; `indices` NULL: position i. It sees the entries up to i, or,
 * under TAMIS_FULL, all L. q, k, v are (L, D) of one head; out has D elements, scratch as many as are seen.
 */
void equal_attend_row(double *out, const tamis_problem *problem, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                      const int32_t *indices, long long i, double *scratch);

/*
 * The same of a block pattern, causal: of the entries up to i it sees those whose block of 128 the mask has in `head`, i's own
 * block among them. `seen` is scratch for as many.
 */
void equal_attend_blocks(double *out, const tamis_problem *problem, const uint16_t *q, const uint16_t *k, const uint16_t *v,
                         const int32_t *indices, long long i, const struct block_mask *mask, long long head, int32_t *seen,
                         double *scratch);

/* Relative norm of a difference; the norm itself where the reference is zero. */
double equal_norm_error(const float *result, const float *reference, long long count);

#endif
