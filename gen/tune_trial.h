/*
 * tune_trial.h: candidates at the shape of their bucket: arrays on the device that all of them share, a plan for each, a
 * check by samples, and rounds. Layer: above bench and the runtime, below tune_serve.c.
 *
 * What is timed is the stage by the steps of the library; attention in the one call, as hosts run it: there it gathers its
 * rows itself, and the last step, where it is launched, writes zeros alone, as it is timed.
 */
#ifndef TUNE_TRIAL_H
#define TUNE_TRIAL_H

#include "bench.h"
#include "plan.h"
#include "tune.h"
#include "tune_maker.h"

#define TUNE_MOST_PLANS 64 /* loaded at once */

enum tune_array {
    TUNE_Q, TUNE_K, TUNE_V, TUNE_OUTPUT, TUNE_WORKSPACE, TUNE_KEPT, TUNE_INDICES,
    TUNE_SCORE, TUNE_RANK, TUNE_MEAN, TUNE_COMPACT_K, TUNE_COMPACT_V,
    TUNE_BLOCK_COUNT, TUNE_BLOCK_LIST, /* of a plan with a block pattern, as tamis_attend_blocks has them */
    TUNE_FLUSH, /* written over to empty the L2 cache */
    TUNE_ARRAYS
};

struct tune_trial {
    struct bench *bench; /* borrowed */
    tamis_store *store;  /* the same */
    tamis_problem asked;   /* for; zeros until all is there */
    tamis_problem problem; /* as plans take it */
    struct tune_lists lists;
    struct block_mask mask;     /* what is listed, where it was chosen at random */
    struct tune_made reference; /* what makers must list of the last head; none until one is checked */
    bool plain;                 /* Q, K and V are plainly random, of the problem's type */
    struct {
        void *data;
        size_t bytes, room; /* of this problem; allocated */
    } arrays[TUNE_ARRAYS];
    struct {
        char family[16], variant[TAMISI_SYMBOL_SIZE];
        tamis_plan *plan;
        bool ran; /* its code is loaded, and the lists that steps read are there */
    } plans[TUNE_MOST_PLANS];
    int plan_count;
    struct bench_memory memory; /* of rows that every candidate's output must have */
    size_t l2_bytes;
};

void tune_trial_init(struct tune_trial *trial, struct bench *bench, tamis_store *store, size_t l2_bytes);
void tune_trial_free(struct tune_trial *trial);

/* Arrays for another problem, and lists; plans of the one before go. `lists` of kind NONE: every block. */
tamis_status tune_trial_set(struct tune_trial *trial, const tamis_problem *problem, const struct tune_lists *lists);
/*
 * Of a force with "" for names: the defaults. TAMIS_OK with what is wrong in `why`, "" if nothing; TAMIS_ENOMEM of the
 * arrays; else the candidate's failure.
 */
tamis_status tune_trial_check(struct tune_trial *trial, const struct tamisi_force *force, char why[TUNE_WHY]);
tamis_status tune_trial_time(struct tune_trial *trial, const struct tamisi_force *force, struct tune_round *out);

/* ---- tune_trial_lists.c, for tune_trial.c */

/* Are its plans' lists made of Q and K? Then making them is what runs. */
bool tune_trial_makes(const struct tune_trial *trial);
/* Lists at random, or Q and K that makers find something in; of a trial without lists nothing. */
tamis_status tune_trial_prepare_lists(struct tune_trial *trial);
void tune_trial_forget_lists(struct tune_trial *trial);
/* Are the lists that a plan has made on the device right? As tune_trial_check(). */
tamis_status tune_trial_check_lists(struct tune_trial *trial, const tamis_plan *plan, char why[TUNE_WHY]);

#endif
