/*
 * tune.c: one task: who enters, the rounds, and what is written down. See tune.h.
 */
#include "tune.h"

#include "error.h"
#include "tune_times.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct effort {
    int first_rounds, second_rounds, final_rounds; /* together */
    size_t finalists;
    double give_up; /* so many times the best's time after the first rounds: out */
    double behind;  /* so many times the best's at a shorter length: not even tried */
} efforts[] = {[TAMISI_QUICK] = {1, 2, 5, 2, 1.3, 1.3},
               [TAMISI_NORMAL] = {1, 3, 25, 4, 1.5, 1.5},
               [TAMISI_EXHAUSTIVE] = {3, 15, 25, (size_t)-1, 1.5, INFINITY}};

#define LEAST_ROUNDS 3 /* of an interrupted task's finalists, to be worth writing down */
#define SURE_ROUNDS 9  /* after so many the noise is known well enough; of 5 rounds three may agree by chance */

enum place {
    OUTSIDE, /* not entered: known already, not in the sample, or bad */
    RUNNING,
    STOPPED
};

struct contender {
    enum place place;
    struct tune_times times;
    int dropped, sm_mhz;
    double median_us; /* of the rounds so far, beside the default's */
    bool fresh;       /* nothing was known of it before */
    bool known_good;  /* its result of an earlier run stands */
    bool resting;     /* beaten for certain where all are finalists: its place stays, its rounds are enough */
};

struct contest {
    const struct tune_task *task;
    const struct tune_options *options;
    const struct tune_device *device;
    const struct tune_journal *journal;
    const struct effort *effort;
    struct tune_outcome *out;
    struct contender *contenders; /* as many as candidates, in their order */
    int turn;                     /* rounds so far, whoever ran: the order rotates */
};

/* ---- rows */

static struct tamisi_timing row_of(const struct contest *contest, size_t i, enum tamisi_timing_state state)
{
    const struct tamisi_variant *variant = &contest->task->candidates[i];
    struct tamisi_timing row = {.source = variant->source,
                                .bucket = contest->task->bucket,
                                .gpu = contest->device->gpu,
                                .state = state,
                                .rigor = contest->options->rigor,
                                .when = contest->options->when};
    snprintf(row.family, sizeof row.family, "%s", contest->task->family);
    memcpy(row.arch, variant->arch, sizeof row.arch);
    memcpy(row.variant, variant->name, sizeof row.variant);
    return row;
}

static struct tamisi_timing result_of(const struct contest *contest, size_t i, enum tamisi_timing_state state)
{
    const struct contender *contender = &contest->contenders[i], *first = &contest->contenders[0];
    struct tamisi_timing row = row_of(contest, i, state);
    row.dropped = contender->dropped;
    row.sm_mhz = contender->sm_mhz;
    tune_times_result(&row, &contender->times, first->place == RUNNING ? &first->times : NULL);
    return row;
}

/* A candidate that will not be tried again. */
static tamis_status condemn(struct contest *contest, size_t i, enum tune_verdict verdict, const char *why)
{
    static const enum tamisi_timing_state states[] = {
        [TUNE_REFUSED] = TAMISI_REFUSED, [TUNE_WRONG] = TAMISI_WRONG, [TUNE_FAULT] = TAMISI_FAULT, [TUNE_HANG] = TAMISI_HANG};
    struct tamisi_timing row = row_of(contest, i, states[verdict]);
    snprintf(row.note, sizeof row.note, "%s", why);
    contest->contenders[i].place = OUTSIDE;
    contest->contenders[i].fresh = false;
    contest->contenders[i].known_good = false;
    *(verdict == TUNE_REFUSED ? &contest->out->refused : &contest->out->bad) += 1;
    if (contest->device->condemned) contest->device->condemned(contest->device->payload, &row);
    return contest->journal->finish(contest->journal->payload, &row, 1);
}

static tamis_status broken(void)
{
    char why[256];
    snprintf(why, sizeof why, "%s", *tamis_last_error() ? tamis_last_error() : "the device is of no use any more");
    return tamisi_fail(TAMIS_ECUDA, "%s", why);
}

static bool stopped(struct contest *contest)
{
    if (!contest->out->interrupted) contest->out->interrupted = contest->device->stop(contest->device->payload);
    return contest->out->interrupted;
}

/* ---- entering */

/* Compiled, judged and checked, with a journal row before it runs for the first time. */
static tamis_status enter(struct contest *contest, size_t i)
{
    const struct tune_device *device = contest->device;
    const struct tamisi_variant *variant = &contest->task->candidates[i];
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
    struct tamisi_timing started = row_of(contest, i, TAMISI_STARTED), earlier;
    char why[TUNE_WHY] = "";
    int count = 0;
    enum tune_verdict verdict = device->compile(device->payload, variant, resources, &count, why);
    if (verdict == TUNE_BROKEN) return stopped(contest) ? TAMIS_OK : broken(); /* Ctrl-C calls off the wait for a compiler */
    /* The default is what runs without tuning: it is measured against, whatever the compiler says of it. */
    if (verdict == TUNE_RIGHT && i > 0 && tune_reports_loss(why, resources, count)) verdict = TUNE_REFUSED;
    if (verdict != TUNE_RIGHT) return condemn(contest, i, verdict, why);

    started.rounds = 1;
    snprintf(started.note, sizeof started.note, "%s", contest->options->boot);
    const bool left_behind = contest->journal->find(contest->journal->payload, &started, &earlier);
    const bool journalled = left_behind || !contest->journal->has_run(contest->journal->payload, &started);
    if (left_behind) {
        started.rounds = earlier.rounds + 1;
        if (strcmp(earlier.note, started.note) != 0)
            return condemn(contest, i, TUNE_FAULT, "the machine went down while it ran");
        if (started.rounds > TUNE_MOST_STARTS)
            return condemn(contest, i, TUNE_FAULT, "the tuner did not come back from it, time after time");
    }
    if (journalled) TAMIS_TRY(contest->journal->begin(contest->journal->payload, &started));
    verdict = device->check(device->payload, contest->task, variant, why);
    if (verdict == TUNE_BROKEN) return broken();
    if (verdict != TUNE_RIGHT) return condemn(contest, i, verdict, why);
    contest->contenders[i].place = RUNNING;
    contest->out->timed++;
    return journalled ? contest->journal->end(contest->journal->payload, &started) : TAMIS_OK;
}

/* ---- rounds */

static tamis_status time_one(struct contest *contest, size_t i)
{
    const struct tune_device *device = contest->device;
    struct contender *contender = &contest->contenders[i];
    struct tune_round round = {0};
    char why[TUNE_WHY] = "";
    const enum tune_verdict verdict = device->time(device->payload, contest->task, &contest->task->candidates[i], &round, why);
    if (verdict == TUNE_BROKEN) return broken();
    if (verdict != TUNE_RIGHT) return condemn(contest, i, verdict, why);
    contender->sm_mhz = round.sm_mhz;
    if (round.throttled)
        contender->dropped++;
    else
        tune_times_add(&contender->times, &round, contest->turn);
    return TAMIS_OK;
}

static size_t count_running(const struct contest *contest)
{
    size_t running = 0;
    for (size_t i = 0; i < contest->task->count; i++) running += contest->contenders[i].place == RUNNING;
    return running;
}

static bool is_due(const struct contender *contender, int rounds)
{
    return contender->place == RUNNING && !contender->resting && contender->times.rounds < rounds;
}

static bool is_any_due(const struct contest *contest, int rounds)
{
    for (size_t i = 0; i < contest->task->count; i++)
        if (is_due(&contest->contenders[i], rounds)) return true;
    return false;
}

/* All that run and have fewer than `rounds` run once, each time another one first, and the default with them. */
static tamis_status run_turn(struct contest *contest, int rounds)
{
    const size_t count = contest->task->count;
    for (size_t k = 0; k < count && !stopped(contest); k++) {
        const size_t i = (k + (size_t)contest->turn) % count;
        const struct contender *contender = &contest->contenders[i];
        if (is_due(contender, rounds) || (i == 0 && contender->place == RUNNING)) TAMIS_TRY(time_one(contest, i));
    }
    contest->turn++;
    for (size_t i = 0; i < count; i++) /* the unit is another one now */
        if (contest->contenders[i].times.rounds > 0)
            contest->contenders[i].median_us = result_of(contest, i, TAMISI_TIMED).median_us;
    return TAMIS_OK;
}

/* A GPU that is throttled for good would never come to an end: after so many turns what there is must do. */
static tamis_status run_rounds(struct contest *contest, int rounds)
{
    const int most_turns = contest->turn + 3 * rounds + 3;
    while (is_any_due(contest, rounds) && contest->turn < most_turns && !stopped(contest)) TAMIS_TRY(run_turn(contest, rounds));
    return TAMIS_OK;
}

/* The least median of those that run; `count`, the number of candidates, where no one has a round. */
static size_t find_best(const struct contest *contest)
{
    size_t best = contest->task->count;
    for (size_t i = 0; i < contest->task->count; i++) {
        const struct contender *contender = &contest->contenders[i];
        if (contender->place != RUNNING || contender->times.rounds == 0) continue;
        if (best == contest->task->count || contender->median_us < contest->contenders[best].median_us) best = i;
    }
    return best;
}

/* Stop the slowest until `keep` are left; and all that take more than `give_up` times the best's time. Never the default. */
static void stop_losers(struct contest *contest, size_t keep, double give_up)
{
    const size_t best = find_best(contest), count = contest->task->count;
    if (best == count) return;
    const double limit = contest->contenders[best].median_us * give_up;
    for (size_t running = count_running(contest); running > 0; running--) {
        size_t slowest = 0;
        for (size_t i = 1; i < count; i++) {
            const struct contender *contender = &contest->contenders[i];
            if (contender->place == RUNNING && i != best &&
                (slowest == 0 || contender->median_us > contest->contenders[slowest].median_us))
                slowest = i;
        }
        if (slowest == 0) return;
        if (running <= keep && contest->contenders[slowest].median_us <= limit) return;
        contest->contenders[slowest].place = STOPPED;
    }
}

/*
 * Stop those whose time and the best one's are farther apart than both are uncertain. Is anyone left beside the best of whom
 * more rounds would tell more? The default stays in any case, and where all are finalists everyone keeps the place, as their
 * times are what was asked for.
 */
static bool stop_beaten(struct contest *contest)
{
    const size_t best = find_best(contest), count = contest->task->count;
    const bool spare = contest->effort->finalists == (size_t)-1;
    bool open = false;
    if (best == count) return false;
    const struct tamisi_timing first = result_of(contest, best, TAMISI_TIMED);
    contest->contenders[best].resting = false;
    for (size_t i = 0; i < count; i++) {
        struct contender *contender = &contest->contenders[i];
        if (i == best || contender->place != RUNNING || contender->times.rounds == 0) continue;
        const struct tamisi_timing timing = result_of(contest, i, TAMISI_TIMED);
        const bool beaten = !tamisi_timing_tie(&first, &timing);
        open = open || !(beaten || tamisi_timing_sharp(&first, &timing));
        contender->resting = beaten && spare;
        if (beaten && i > 0 && !spare) contender->place = STOPPED;
    }
    return open;
}

/* As many rounds as it takes to tell the best from the rest, and no more than the effort has. */
static tamis_status run_finals(struct contest *contest)
{
    const int most = contest->effort->final_rounds, had = contest->effort->second_rounds;
    int rounds = had > SURE_ROUNDS ? had : SURE_ROUNDS < most ? SURE_ROUNDS : most;
    TAMIS_TRY(run_rounds(contest, rounds));
    while (rounds < most && !stopped(contest) && stop_beaten(contest)) TAMIS_TRY(run_rounds(contest, ++rounds));
    return TAMIS_OK;
}

/* ---- local search */

/* What lies beside `best` and was never tried enters. */
static tamis_status enter_beside(struct contest *contest, size_t best, size_t *entered)
{
    const struct tune_task *task = contest->task;
    *entered = 0;
    for (size_t i = 0; i < task->count && !stopped(contest); i++) {
        struct contender *contender = &contest->contenders[i];
        if (!contender->fresh || contender->place != OUTSIDE || !tune_beside(task->candidates, task->count, best, i)) continue;
        TAMIS_TRY(enter(contest, i));
        *entered += contender->place == RUNNING;
    }
    return TAMIS_OK;
}

static tamis_status climb(struct contest *contest)
{
    size_t best = find_best(contest), entered = 1;
    while (best < contest->task->count && entered > 0 && !stopped(contest)) {
        TAMIS_TRY(enter_beside(contest, best, &entered));
        if (entered == 0) break;
        TAMIS_TRY(run_rounds(contest, contest->effort->second_rounds));
        stop_losers(contest, contest->effort->finalists, contest->effort->give_up);
        best = find_best(contest);
    }
    return TAMIS_OK;
}

/* Has all that lies beside the best been tried? */
static bool is_settled(const struct contest *contest)
{
    const struct tune_task *task = contest->task;
    const size_t best = find_best(contest);
    for (size_t i = 0; i < task->count && best < task->count; i++) {
        const struct contender *contender = &contest->contenders[i];
        if (contender->fresh && contender->place == OUTSIDE && tune_beside(task->candidates, task->count, best, i))
            return false;
    }
    return true;
}

/* ---- the whole */

/* Mark what is known, and who was too far behind at a shorter length to enter. */
static void look_up(struct contest *contest)
{
    for (size_t i = 0; i < contest->task->count; i++) {
        struct contender *contender = &contest->contenders[i];
        struct tamisi_timing wanted = row_of(contest, i, TAMISI_TIMED), found;
        const bool known = contest->journal->find(contest->journal->payload, &wanted, &found);
        const bool again = contest->options->again;
        const bool stands = known && found.rigor >= contest->options->rigor;
        const bool bad = (known && found.state >= TAMISI_REFUSED) ||
                         contest->journal->is_bad(contest->journal->payload, &wanted);
        const bool behind = i > 0 && contest->journal->behind(contest->journal->payload, &wanted) > contest->effort->behind;
        contender->fresh = (again || !(stands || bad)) && !behind;
        contender->known_good = !again && !bad && stands && found.state == TAMISI_TIMED;
        contender->median_us = contender->known_good ? found.median_us : 0;
    }
}

/* The fastest of what is known; `count`, the number of candidates, if nothing is. */
static size_t best_known(const struct contest *contest)
{
    size_t best = contest->task->count;
    for (size_t i = 0; i < contest->task->count; i++) {
        const struct contender *contender = &contest->contenders[i];
        if (contender->known_good &&
            (best == contest->task->count || contender->median_us < contest->contenders[best].median_us))
            best = i;
    }
    return best;
}

/* A search is over when nobody of the sample is fresh, nor anybody beside the best: who is left out of it stays so. */
static bool is_over(const struct contest *contest, const size_t *sample, size_t taken)
{
    const struct tune_task *task = contest->task;
    const size_t best = best_known(contest);
    for (size_t k = 0; k < taken; k++)
        if (contest->contenders[sample[k]].fresh) return false;
    for (size_t i = 0; i < task->count && best < task->count; i++)
        if (contest->contenders[i].fresh && tune_beside(task->candidates, task->count, best, i)) return false;
    return true;
}

/* Of what was timed before, the default and the best run along: times of two days do not compare. */
static tamis_status enter_known(struct contest *contest)
{
    const size_t best = best_known(contest);
    if (best < contest->task->count) TAMIS_TRY(enter(contest, best));
    if (best != 0 && contest->contenders[0].known_good) TAMIS_TRY(enter(contest, 0));
    return TAMIS_OK;
}

static tamis_status enter_fresh(struct contest *contest, const size_t *sample, size_t taken)
{
    for (size_t k = 0; k < taken && !stopped(contest); k++)
        if (contest->contenders[sample[k]].fresh) TAMIS_TRY(enter(contest, sample[k]));
    return TAMIS_OK;
}

static tamis_status compete(struct contest *contest)
{
    const struct effort *effort = contest->effort;
    TAMIS_TRY(run_rounds(contest, effort->first_rounds));
    size_t keep = (count_running(contest) + 1) / 2;
    if (keep < effort->finalists) keep = effort->finalists;
    stop_losers(contest, keep, effort->give_up);
    TAMIS_TRY(run_rounds(contest, effort->second_rounds));
    do { /* more rounds may show that another is the best, with others beside it */
        TAMIS_TRY(climb(contest));
        stop_losers(contest, effort->finalists, effort->give_up);
        TAMIS_TRY(run_finals(contest));
    } while (!stopped(contest) && !is_settled(contest));
    return TAMIS_OK;
}

/* An interrupted task's rounds are of the least rigor: a later run does them again. */
static tamis_status write_results(struct contest *contest)
{
    struct tamisi_timing *rows = malloc((contest->task->count + 1) * sizeof *rows);
    const int least = contest->out->interrupted ? LEAST_ROUNDS : 1;
    size_t count = 0;
    bool whole = true;
    if (!rows) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the timings");
    for (size_t i = 0; i < contest->task->count; i++) {
        const struct contender *contender = &contest->contenders[i];
        if (contender->place == OUTSIDE) continue;
        if (contender->place == RUNNING) whole = whole && contender->times.rounds >= least;
        if (contender->times.rounds > 0)
            rows[count++] = result_of(contest, i, contender->place == RUNNING ? TAMISI_TIMED : TAMISI_STOPPED);
        if (contest->out->interrupted && count > 0) rows[count - 1].rigor = TAMISI_QUICK;
    }
    const tamis_status status = whole ? contest->journal->finish(contest->journal->payload, rows, count) : TAMIS_OK;
    free(rows);
    return status;
}

static tamis_status run_contest(struct contest *contest, size_t *sample)
{
    const size_t taken = tune_sample(sample, tune_whole_space(contest->options->rigor), contest->task->count);
    look_up(contest);
    if (is_over(contest, sample, taken)) {
        contest->out->nothing_to_do = true;
        return TAMIS_OK;
    }
    TAMIS_TRY(enter_known(contest));
    TAMIS_TRY(enter_fresh(contest, sample, taken));
    TAMIS_TRY(compete(contest));
    return write_results(contest);
}

/* By the rows there are now, as a plan will. */
static tamis_status tell_choice(struct contest *contest, size_t *order)
{
    const size_t count = contest->task->count;
    struct tamisi_option *options = calloc(count + 1, sizeof *options);
    struct tamisi_timing *rows = calloc(count + 1, sizeof *rows);
    struct tamisi_choice choice = {.timed = 0};
    size_t found = 0;
    if (options && rows) {
        for (size_t i = 0; i < count; i++) {
            const struct tamisi_timing wanted = row_of(contest, i, TAMISI_TIMED);
            options[i].source = contest->task->candidates[i].source;
            found += contest->journal->find(contest->journal->payload, &wanted, &rows[found]);
        }
        tamisi_choose(&choice, order, options, count, rows, found, &contest->task->bucket, &contest->device->gpu);
    }
    for (size_t i = 0; i < found && choice.timed > 0; i++) {
        if (tamisi_hash_equal(&rows[i].source, &options[order[0]].source)) contest->out->chosen_us = rows[i].median_us;
        if (tamisi_hash_equal(&rows[i].source, &options[0].source) && rows[i].state == TAMISI_TIMED)
            contest->out->default_us = rows[i].median_us;
    }
    if (choice.timed > 0) contest->out->chosen = contest->task->candidates[order[0]].name;
    const bool failed = !options || !rows;
    free(options);
    free(rows);
    return failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory for the timings") : TAMIS_OK;
}

tamis_status tune_run(struct tune_outcome *out, const struct tune_task *task, const struct tune_options *options,
                      const struct tune_device *device, const struct tune_journal *journal)
{
    struct contest contest = {task, options, device, journal, &efforts[options->rigor], out, NULL, 0};
    size_t *places = malloc((task->count + 1) * sizeof *places);
    *out = (struct tune_outcome){.chosen = NULL};
    contest.contenders = calloc(task->count + 1, sizeof *contest.contenders);
    tamis_status status = TAMIS_OK;
    if (!places || !contest.contenders) status = tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu candidates", task->count);
    if (status == TAMIS_OK) status = run_contest(&contest, places);
    if (status == TAMIS_OK) status = tell_choice(&contest, places);
    free(places);
    free(contest.contenders);
    return status;
}
