/*
 * tune_fiction.h: what the files of the tune suite's search share: a device and a journal of fiction, and short checks. A
 * search on them takes no time: what each candidate takes, and what is wrong with it, is what a test says.
 */
#ifndef TUNE_FICTION_H
#define TUNE_FICTION_H

#include "tune.h"

#include <check.h>

#define FICTION_MOST 400 /* candidates */

/* A device of fiction: the time of each candidate, what is wrong with it, and what it was asked. */
extern struct fiction {
    double us[FICTION_MOST];
    enum tune_verdict compiles[FICTION_MOST], checks[FICTION_MOST], times[FICTION_MOST];
    int spills[FICTION_MOST];
    int checked[FICTION_MOST], timed[FICTION_MOST];
    int throttled[FICTION_MOST]; /* rounds to come in which the GPU is slow */
    double noise, drift;         /* of a round, relative; of all rounds, upwards for each */
    double wave;                 /* by how much the GPU is slower, for some turns, then not for some */
    bool slow;
    int rounds, stop_after; /* rounds after which it is interrupted; 0: never */
    int die_at;             /* checks after which the tuner is killed in the midst of one; 0: never */
    unsigned random;
} fiction;

/* What is searched, what came of it, and the store of fiction: its rows, and how often it was written. */
extern struct fiction_tuning {
    struct tamisi_variant variants[FICTION_MOST];
    struct tune_task task;
    struct tune_options options;
    struct tune_outcome outcome;
    struct tamisi_timing rows[4 * FICTION_MOST];
    size_t row_count, transactions, begun;
} tuning;

TCase *tune_resume_case(void); /* check_tune_resume.c */
TCase *tune_local_case(void);  /* check_tune_local.c */

void fiction_set(int a, int b);  /* `a` by `b` candidates, of 100 us and up by one each, and an empty store */
void fiction_run(void);          /* a search; what was counted of the one before is forgotten */
void fiction_kill_at(int check); /* a search, and the tuner is killed in its check of that number, counted from 1 */

const struct tamisi_timing *fiction_row(size_t i); /* of that candidate; NULL: it has none, or a journal row alone */
void fiction_expect(size_t i, enum tamisi_timing_state state);

#endif
