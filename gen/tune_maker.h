/*
 * tune_maker.h: are the lists that a maker's candidate leaves those of its pattern? On a small and awkward problem of two
 * sequences, and by one head of a bucket's own shape, against the CPU backend's lists, which are made in double precision.
 * Layer: beside tune_case, whose place it takes where no rows are attended to; below tune_trial.
 */
#ifndef TUNE_MAKER_H
#define TUNE_MAKER_H

#include "plan.h"
#include "tune.h"

/* Lists (heads, T, T) on the host, as tamis_make_blocks leaves them, and the masks that their entries refer to; owned. */
struct tune_made {
    int32_t *count, *list;
    uint32_t *masks; /* (TAMISI_PATTERN_MASKS, 512) */
    long long heads; /* B * Hq */
    int tiles;
};

/* Room for lists of a plan with a pattern. TAMIS_ENOMEM. After a failure too tune_made_free() is due. */
tamis_status tune_made_alloc(struct tune_made *out, long long heads, int tiles);
void tune_made_free(struct tune_made *made);

/*
 * Are they sound, and those of the reference? `rows`: of each sequence, for whose blocks there are lists; heads are shared out
 * evenly to `sequences`. Where a choice ends, values may be so near that sums in single precision end it elsewhere: two blocks
 * of a list may be others, in one head of eight or a single one. (On the emulated GPU none was, in the small problem of five
 * kinds with three sets of parameters each, nor of a head of 8192 and 32777 rows.) What is wrong into `why`, "" if nothing.
 */
void tune_made_compare(const struct tune_made *made, const struct tune_made *reference, const int32_t *rows, int sequences,
                       char why[TUNE_WHY]);

/*
 * The lists of a problem without selection, batch 1, one head: Q and K (L, D). In roughly tune_made_seconds() on one core.
 * Statuses of tamis_plan_create_with.
 */
tamis_status tune_made_of_head(struct tune_made *out, const tamis_problem *problem, const tamis_pattern *pattern,
                               const uint16_t *q, const uint16_t *k);
double tune_made_seconds(const tamis_problem *problem, const tamis_pattern *pattern);

/* The small problem: two sequences, one of them shorter than its room, of which no tile divides either. */
struct tune_maker_case {
    bool made;
    tamis_problem problem;
    tamis_pattern pattern; /* the bucket's, with fewer tokens where as many would list every block */
    uint16_t *q, *k;
    int32_t kept[2];
    struct tune_made reference;
};

tamis_status tune_maker_case_make(struct tune_maker_case *out, const tamis_problem *problem, const tamis_pattern *pattern);
void tune_maker_case_free(struct tune_maker_case *made);
/* TAMIS_OK with what is wrong in `why`, "" if nothing; a failure is the candidate's. */
tamis_status tune_maker_case_check(const struct tune_maker_case *made, tamis_context *context, tamis_store *store,
                                   const struct tamisi_force *force, char why[TUNE_WHY]);

#endif
