/*
 * check_tune.c: the search with fictional devices: who is found, who is condemned, what a second run does, and what an
 * interrupted one leaves.
 */
#define _GNU_SOURCE
#include "tune.h"

#include "error.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *tune_suite(void);
TCase *tune_times_case(void); /* check_tune_times.c */
TCase *tune_trial_case(void); /* check_tune_trial.c */
TCase *tune_lists_case(void); /* check_tune_lists.c */
TCase *tune_tasks_case(void); /* check_tune_tasks.c */

#define MOST 400

/* A device of fiction: the time of each candidate, what is wrong with it, and what it was asked. */
static struct fiction {
    double us[MOST];
    enum tune_verdict compiles[MOST], checks[MOST], times[MOST];
    int spills[MOST];
    int checked[MOST], timed[MOST];
    int throttled[MOST]; /* rounds to come in which the GPU is slow */
    double noise, drift; /* of a round, relative; of all rounds, upwards for each */
    double wave;         /* by how much the GPU is slower, for some turns, then not for some */
    bool slow;
    int rounds, stop_after; /* rounds after which it is interrupted; 0: never */
    int die_at; /* checks after which the tuner is killed in the midst of one; 0: never */
    unsigned random;
} fiction;

static struct tamisi_variant variants[MOST];
static struct tamisi_timing rows[4 * MOST];
static size_t row_count, transactions, begun;
static struct tune_task task;
static struct tune_outcome outcome;
static struct tune_options options;

static size_t place_of(const struct tamisi_variant *variant) { return (size_t)(variant - variants); }

static double random_part(void)
{
    fiction.random = fiction.random * 1664525u + 1013904223u;
    return (double)(fiction.random >> 8) / (1 << 24) * 2 - 1;
}

static enum tune_verdict compile(void *payload, const struct tamisi_variant *variant, struct tamisi_resource *resources,
                                 int *count, char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload;
    resources[0] = (struct tamisi_resource){.symbol = "kernel", .spill_stores = fiction.spills[i]};
    *count = 1;
    if (fiction.compiles[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "kernel.cu:1: no");
    return fiction.compiles[i];
}

static enum tune_verdict check(void *payload, const struct tune_task *of, const struct tamisi_variant *variant,
                               char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload;
    ck_assert_ptr_eq(of, &task);
    fiction.checked[i]++;
    if (fiction.checks[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "error 0.5");
    if (fiction.die_at > 0 && --fiction.die_at == 0) { /* as if killed: nothing more is written */
        tamisi_fail(TAMIS_ECUDA, "killed");
        return TUNE_BROKEN;
    }
    return fiction.checks[i];
}

static enum tune_verdict time_round(void *payload, const struct tune_task *of, const struct tamisi_variant *variant,
                                    struct tune_round *out, char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload, (void)of;
    ck_assert_int_gt(fiction.checked[i], 0); /* numbers first */
    fiction.timed[i]++;
    fiction.rounds++;
    if (fiction.wave > 0 && random_part() > 0.9) fiction.slow = !fiction.slow;
    const double slow = fiction.slow ? 1 + fiction.wave : 1;
    const double us = fiction.us[i] * (1 + fiction.noise * random_part()) * (1 + fiction.drift * fiction.rounds) * slow;
    *out = (struct tune_round){.us = us, .cold_us = us * 1.1, .warm_us = us * 0.9, .sm_mhz = 1980};
    if (fiction.throttled[i] > 0) {
        fiction.throttled[i]--;
        out->throttled = true;
        out->us *= 3;
    }
    if (fiction.times[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "no answer");
    return fiction.times[i];
}

static bool stop(void *payload)
{
    (void)payload;
    return fiction.stop_after > 0 && fiction.rounds >= fiction.stop_after;
}

static bool find_row(void *payload, const struct tamisi_timing *wanted, struct tamisi_timing *out)
{
    (void)payload;
    for (size_t i = 0; i < row_count; i++)
        if (tamisi_timing_same_key(&rows[i], wanted)) {
            *out = rows[i];
            return true;
        }
    return false;
}

static bool has_run_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    for (size_t i = 0; i < row_count; i++)
        if ((rows[i].state == TAMISI_TIMED || rows[i].state == TAMISI_STOPPED) &&
            tamisi_hash_equal(&rows[i].source, &wanted->source))
            return true;
    return false;
}

static double behind_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    return tune_behind(rows, row_count, wanted);
}

static bool is_bad_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    for (size_t i = 0; i < row_count; i++)
        if (rows[i].state >= TAMISI_WRONG && tamisi_hash_equal(&rows[i].source, &wanted->source)) return true;
    return false;
}

static void put_row(const struct tamisi_timing *row)
{
    for (size_t i = 0; i < row_count; i++)
        if (tamisi_timing_same_key(&rows[i], row)) {
            if (tamisi_timing_supersedes(row, &rows[i])) rows[i] = *row;
            return;
        }
    rows[row_count++] = *row;
}

static tamis_status begin_row(void *payload, const struct tamisi_timing *started)
{
    (void)payload;
    begun++;
    put_row(started);
    return TAMIS_OK;
}

static tamis_status end_row(void *payload, const struct tamisi_timing *started)
{
    struct tamisi_timing key = *started;
    (void)payload;
    key.state = TAMISI_STARTED;
    for (size_t i = 0; i < row_count; i++)
        if (tamisi_timing_same_key(&rows[i], &key)) rows[i] = rows[--row_count];
    return TAMIS_OK;
}

static tamis_status finish_rows(void *payload, const struct tamisi_timing *timings, size_t count)
{
    transactions++;
    for (size_t i = 0; i < count; i++) {
        put_row(&timings[i]);
        end_row(payload, &timings[i]);
    }
    return TAMIS_OK;
}

static const struct tune_device device = {.compile = compile,
                                          .check = check,
                                          .time = time_round,
                                          .stop = stop,
                                          .gpu = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13}};
static const struct tune_journal journal = {
    .find = find_row, .has_run = has_run_row, .behind = behind_row, .is_bad = is_bad_row, .begin = begin_row, .end = end_row, .finish = finish_rows};

/* `a` by `b` candidates; the time of the first is 100 us. */
static void set_task(int a, int b)
{
    memset(&fiction, 0, sizeof fiction);
    row_count = transactions = begun = 0;
    task = (struct tune_task){.family = "attend",
                              .problem = TAMIS_PROBLEM_INIT,
                              .bucket = {.head_dim = 128, .q_heads = 32, .kv_heads = 8, .batch = 1, .seq_len = 8192,
                                         .kept = 8192, .dense = true},
                              .candidates = variants,
                              .count = (size_t)(a * b)};
    for (int i = 0; i < a * b; i++) {
        struct tamisi_variant *variant = &variants[i];
        memset(variant, 0, sizeof *variant);
        snprintf(variant->family, sizeof variant->family, "attend");
        snprintf(variant->name, sizeof variant->name, "attend_%d", i);
        snprintf(variant->arch, sizeof variant->arch, "sm_90a");
        snprintf(variant->params, sizeof variant->params, "block_m=%d stages=%d", 16 * (i / b + 1), i % b + 1);
        variant->rank = i;
        variant->source = tamisi_hash_bytes(&i, sizeof i);
        fiction.us[i] = 100 + i;
    }
    options = (struct tune_options){.rigor = TAMISI_NORMAL, .when = 1700000000, .boot = "boot-1"};
}

static void run(void)
{
    memset(fiction.timed, 0, sizeof fiction.timed);
    memset(fiction.checked, 0, sizeof fiction.checked);
    fiction.rounds = 0;
    options.when++;
    ck_assert_int_eq(tune_run(&outcome, &task, &options, &device, &journal), TAMIS_OK);
}

static const struct tamisi_timing *row(size_t i)
{
    for (size_t r = 0; r < row_count; r++)
        if (tamisi_hash_equal(&rows[r].source, &variants[i].source) && rows[r].state != TAMISI_STARTED) return &rows[r];
    return NULL;
}

static void expect_state(size_t i, enum tamisi_timing_state state)
{
    ck_assert_msg(row(i) && row(i)->state == state, "candidate %zu is %s, not %s", i,
                  row(i) ? tamisi_timing_state_name(row(i)->state) : "without a row", tamisi_timing_state_name(state));
}

START_TEST(finds_the_fastest)
{
    static const enum tamisi_rigor rigors[] = {TAMISI_QUICK, TAMISI_NORMAL, TAMISI_EXHAUSTIVE};
    set_task(4, 3);
    fiction.us[7] = 60;
    fiction.noise = 0.01;
    fiction.drift = 1e-4; /* a GPU that gets warm */
    options.rigor = rigors[_i];
    run();
    ck_assert_str_eq(outcome.chosen, "attend_7");
    ck_assert_uint_eq(outcome.timed, 12);
    ck_assert_double_gt(outcome.default_us / outcome.chosen_us, 1.5);
    expect_state(7, TAMISI_TIMED);
    expect_state(0, TAMISI_TIMED); /* the default runs to the end, to be measured against */
    for (size_t i = 0; i < task.count; i++) {
        ck_assert_ptr_nonnull(row(i));
        ck_assert_int_eq(row(i)->rigor, options.rigor);
        ck_assert_int_eq(row(i)->rounds, fiction.timed[i]);
    }
    ck_assert_uint_eq(row_count, task.count); /* no journal row is left */
    ck_assert_uint_eq(transactions, 1);
    ck_assert_double_gt(row(7)->cold_us, row(7)->warm_us);
    ck_assert_int_eq(row(7)->sm_mhz, 1980);
}
END_TEST

/* Exhaustive: to the end, but for what cannot be near the best. */
START_TEST(times_all)
{
    set_task(4, 3);
    fiction.us[7] = 80;
    fiction.us[9] = 140;
    fiction.noise = 0.01;
    options.rigor = TAMISI_EXHAUSTIVE;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_7");
    for (size_t i = 0; i < task.count; i++) {
        ck_assert_int_eq(fiction.timed[i], i == 9 ? 3 : 15);
        expect_state(i, i == 9 ? TAMISI_STOPPED : TAMISI_TIMED);
    }

    set_task(4, 3);
    fiction.us[7] = 80;
    fiction.us[8] = 80.2; /* what is near takes more, with the default beside it; what is beaten does not */
    fiction.noise = 0.02;
    options.rigor = TAMISI_EXHAUSTIVE;
    run();
    for (size_t i = 0; i < task.count; i++) {
        ck_assert_int_eq(fiction.timed[i], i == 0 || i == 7 || i == 8 ? 25 : 15);
        expect_state(i, TAMISI_TIMED);
    }
}
END_TEST

/* What takes twice the best's time after the first rounds is timed no more. */
START_TEST(stops_losers)
{
    set_task(4, 3);
    for (int i = 4; i < 12; i++) fiction.us[i] = 400;
    run();
    for (size_t i = 4; i < 12; i++) {
        ck_assert_int_eq(fiction.timed[i], 1);
        expect_state(i, TAMISI_STOPPED);
    }
    fiction.us[0] = 1000; /* but for the default */
    row_count = 0;
    run();
    expect_state(0, TAMISI_TIMED);
    ck_assert_int_ge(fiction.timed[0], 5);
}
END_TEST

/* A clock that falls by a tenth for a while, and comes back, decides nothing between kernels that are 1 % apart. */
START_TEST(waves)
{
    for (int k = 0; k < 40; k++) {
        set_task(4, 1);
        fiction.wave = 0.1;
        fiction.noise = 0.002;
        fiction.random = (unsigned)k;
        fiction.us[1] = 99;
        run();
        ck_assert_msg(strcmp(outcome.chosen, "attend_1") == 0, "run %d chooses %s", k, outcome.chosen);
        ck_assert_double_eq_tol(outcome.chosen_us / outcome.default_us, 0.99, 0.003);
    }
}
END_TEST

/* Twenty-five rounds are for those that noise does not tell apart; who is beaten for certain costs no more of them. */
START_TEST(bounds_finals)
{
    for (int noisy = 0; noisy < 2; noisy++) {
        const int rounds = noisy ? 25 : 9; /* who is within half a percent for certain needs no more either */
        set_task(4, 3);
        for (int i = 0; i < 12; i++) fiction.us[i] = i == 5 ? 90 : i == 6 ? 90.1 : 100 + i;
        fiction.noise = noisy * 0.02;
        run();
        ck_assert_str_eq(outcome.chosen, "attend_5");
        ck_assert_int_eq(fiction.timed[5], rounds);
        ck_assert_int_eq(fiction.timed[6], rounds);
        expect_state(6, TAMISI_TIMED);
        ck_assert_int_eq(fiction.timed[1], 9); /* third of four finalists */
        expect_state(1, TAMISI_STOPPED);
        ck_assert_int_eq(fiction.timed[0], rounds);
        expect_state(0, TAMISI_TIMED);
    }

    set_task(4, 3);
    fiction.us[5] = 90;
    run();
    ck_assert_int_eq(fiction.timed[5], 9); /* nobody is near */
    ck_assert_int_eq(fiction.timed[0], 9);
    expect_state(0, TAMISI_TIMED);
    ck_assert_double_eq_tol(outcome.default_us / outcome.chosen_us, 100.0 / 90, 1e-9);
}
END_TEST

/* At a greater length, who was far behind is left out: where runs are long, and but for the default and exhaustive rigor. */
START_TEST(leaves_out)
{
    set_task(4, 3);
    for (int i = 0; i < 12; i++) fiction.us[i] = i == 3 ? 3000 : i < 6 ? 4000 : 6000;
    fiction.us[0] = 6000;
    run();
    ck_assert_uint_eq(outcome.timed, 12);
    task.bucket.seq_len = task.bucket.kept = 32768;
    run();
    for (int i = 0; i < 12; i++) ck_assert_int_eq(fiction.checked[i], i < 6);
    ck_assert_str_eq(outcome.chosen, "attend_3");
    run(); /* a second run leaves out the same */
    ck_assert(outcome.nothing_to_do);
    task.bucket.seq_len = task.bucket.kept = 65536; /* those without a time at 32768 too */
    run();
    for (int i = 0; i < 12; i++) ck_assert_int_eq(fiction.checked[i], i < 6);
    task.bucket.seq_len = task.bucket.kept = 4096; /* a shorter one says nothing of a longer */
    run();
    ck_assert_uint_eq(outcome.timed, 12);
    task.bucket.seq_len = task.bucket.kept = 32768;
    task.bucket.dense = false, task.bucket.kept = 8192; /* nor a dense one of a sparse one */
    run();
    ck_assert_uint_eq(outcome.timed, 12);
    task.bucket.dense = true, task.bucket.kept = 32768;
    options.rigor = TAMISI_EXHAUSTIVE;
    run();
    ck_assert_uint_eq(outcome.timed, 12);

    set_task(4, 3); /* short runs: what is slow there may be fast in longer ones */
    fiction.us[11] = 500;
    run();
    task.bucket.seq_len = task.bucket.kept = 32768;
    run();
    ck_assert_uint_eq(outcome.timed, 12);
}
END_TEST

/* Two runs with other noise choose alike, and a candidate within the noise of the default does not replace it. */
START_TEST(runs_agree)
{
    set_task(2, 3);
    const char *chosen = NULL;
    for (int i = 0; i < 6; i++) fiction.us[i] = 100 - 0.03 * i;
    for (unsigned seed = 0; seed < 40; seed++) {
        row_count = 0;
        fiction.random = seed;
        fiction.noise = 0.003;
        run();
        if (!chosen) chosen = outcome.chosen;
        ck_assert_str_eq(outcome.chosen, "attend_0");
        ck_assert_str_eq(outcome.chosen, chosen);
        ck_assert_double_eq(outcome.chosen_us, outcome.default_us);
    }
}
END_TEST

START_TEST(condemns)
{
    set_task(4, 2);
    fiction.compiles[1] = TUNE_REFUSED;
    fiction.checks[2] = TUNE_WRONG, fiction.us[2] = 1; /* fast and wrong */
    fiction.checks[3] = TUNE_HANG;
    fiction.times[4] = TUNE_FAULT; /* only when it runs often */
    fiction.spills[5] = 8;
    run();
    expect_state(1, TAMISI_REFUSED);
    expect_state(2, TAMISI_WRONG);
    expect_state(3, TAMISI_HANG);
    expect_state(4, TAMISI_FAULT);
    expect_state(5, TAMISI_REFUSED);
    ck_assert_ptr_nonnull(strstr(row(5)->note, "spills 8 bytes"));
    ck_assert_str_eq(row(2)->note, "error 0.5");
    ck_assert_uint_eq(outcome.refused, 2);
    ck_assert_uint_eq(outcome.bad, 3);
    ck_assert_str_eq(outcome.chosen, "attend_0");
    ck_assert_int_eq(fiction.checked[1] + fiction.checked[5], 0);
    ck_assert_int_eq(fiction.timed[2] + fiction.timed[3], 0);
    ck_assert_int_eq(fiction.timed[4], 1);
    run(); /* and none of them is tried again */
    ck_assert(outcome.nothing_to_do);
    ck_assert_int_eq(fiction.rounds, 0);
    task.bucket.seq_len = task.bucket.kept = 16384; /* nor where the shape is another, but for what was refused */
    run();
    for (int i = 2; i < 5; i++) ck_assert_int_eq(fiction.checked[i], 0);
    task.bucket.seq_len = task.bucket.kept = 8192;
    options.rigor = TAMISI_EXHAUSTIVE;
    run();
    for (int i = 1; i < 6; i++) ck_assert_int_eq(fiction.checked[i], 0);
    ck_assert_int_eq(fiction.checked[6], 1);
    options.again = true; /* unless asked for */
    fiction.checks[2] = TUNE_RIGHT;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_2");
}
END_TEST

/* The default may spill: it is what runs without tuning. */
START_TEST(default_is_kept)
{
    set_task(2, 2);
    fiction.spills[0] = 100;
    run();
    expect_state(0, TAMISI_TIMED);
    set_task(2, 2);
    fiction.checks[0] = TUNE_WRONG;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_1");
    ck_assert_double_eq(outcome.default_us, 0);
}
END_TEST

START_TEST(throttled_rounds)
{
    set_task(2, 2);
    fiction.us[1] = 50;
    fiction.throttled[1] = 2;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_1");
    ck_assert_int_eq(row(1)->dropped, 2);
    ck_assert_double_eq_tol(row(1)->median_us, 50, 1e-9);
    set_task(2, 2);
    for (int i = 0; i < 4; i++) fiction.throttled[i] = 1 << 20; /* for good: it still comes to an end */
    run();
    ck_assert_ptr_null(outcome.chosen);
}
END_TEST

/* A rerun times what is new, beside the default and the best; more rigor times all; less nothing. */
START_TEST(resumes)
{
    set_task(4, 3);
    task.count = 9;
    fiction.us[4] = 50;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_4");
    run();
    ck_assert(outcome.nothing_to_do);
    ck_assert_str_eq(outcome.chosen, "attend_4"); /* said all the same */
    ck_assert_int_eq(fiction.rounds, 0);
    options.rigor = TAMISI_QUICK;
    run();
    ck_assert(outcome.nothing_to_do);
    options.rigor = TAMISI_NORMAL;
    task.count = 12;
    fiction.us[11] = 40;
    run();
    for (size_t i = 0; i < task.count; i++) ck_assert_int_eq(fiction.timed[i] > 0, i == 0 || i == 4 || i >= 9);
    ck_assert_str_eq(outcome.chosen, "attend_11");
    options.rigor = TAMISI_EXHAUSTIVE;
    run();
    for (size_t i = 0; i < task.count; i++) ck_assert_int_ge(fiction.timed[i], i == 0 || i == 4 || i == 11 ? 15 : 3);
}
END_TEST

START_TEST(interrupted)
{
    set_task(4, 2);
    fiction.us[3] = 50;
    fiction.stop_after = 5; /* before everyone has run once */
    run();
    ck_assert(outcome.interrupted);
    ck_assert_uint_eq(row_count, 0);
    fiction.stop_after = 15; /* in the final rounds: what is there is worth something */
    run();
    ck_assert(outcome.interrupted);
    ck_assert_str_eq(outcome.chosen, "attend_3");
    ck_assert_int_eq(row(3)->rigor, TAMISI_QUICK);
    fiction.stop_after = 0;
    run();
    ck_assert(!outcome.interrupted && !outcome.nothing_to_do);
    ck_assert_int_eq(row(3)->rigor, TAMISI_NORMAL);
}
END_TEST

static void be_killed_at(int check)
{
    fiction.die_at = check;
    ck_assert_int_eq(tune_run(&outcome, &task, &options, &device, &journal), TAMIS_ECUDA);
    fiction.die_at = 0;
}

/* Journal rows: a killed tuner is no reason to blame a candidate at once; a machine that went down is. */
START_TEST(left_behind)
{
    set_task(3, 2);
    fiction.us[2] = 100; /* as good as the default */
    be_killed_at(3);
    ck_assert_uint_eq(row_count, 1);
    ck_assert_int_eq(rows[0].state, TAMISI_STARTED);
    run();
    expect_state(2, TAMISI_TIMED);
    ck_assert_uint_eq(row_count, task.count);

    set_task(3, 2);
    be_killed_at(3);
    options.boot = "boot-2";
    run();
    expect_state(2, TAMISI_FAULT);
    ck_assert_int_eq(fiction.checked[2], 0);

    set_task(3, 2);
    for (int i = 0; i < TUNE_MOST_STARTS; i++) be_killed_at(3);
    run();
    expect_state(2, TAMISI_FAULT);
    ck_assert_int_eq(fiction.checked[2], 0);
    ck_assert_uint_eq(row_count, task.count);

    set_task(3, 2); /* in another bucket, only who is new needs a row */
    task.count = 5;
    run();
    ck_assert_uint_eq(begun, 5);
    task.count = 6;
    task.bucket.seq_len = task.bucket.kept = 16384;
    run();
    ck_assert_uint_eq(begun, 6);
    ck_assert_uint_eq(outcome.timed, 6);
    ck_assert_uint_eq(row_count, 11); /* and none is left */
}
END_TEST

/* A large space with one valley: found from a sample, by steps, with a part of the candidates tried. */
START_TEST(local_search)
{
    set_task(20, 20);
    int tried = 0;
    for (int i = 0; i < 400; i++) fiction.us[i] = 50 + 3 * abs(i / 20 - 13) + 2 * abs(i % 20 - 6);
    fiction.noise = 0.002;
    run();
    ck_assert_str_eq(outcome.chosen, "attend_266"); /* 13, 6 */
    for (int i = 0; i < 400; i++) tried += fiction.checked[i] > 0;
    ck_assert_int_lt(tried, 120);
    ck_assert_int_gt(tried, 32);
    run(); /* what the search left out, it leaves out */
    ck_assert(outcome.nothing_to_do);
    ck_assert_str_eq(outcome.chosen, "attend_266");
    ck_assert_int_eq(fiction.rounds, 0);
}
END_TEST

/* Among candidates that noise tells apart, another may lead at the end than on the way: what is beside that one is tried too,
   so that a second run has nothing to do. */
START_TEST(settles)
{
    for (options.rigor = TAMISI_QUICK; options.rigor <= TAMISI_NORMAL; options.rigor++)
        for (unsigned seed = 0; seed < 40; seed++) {
            set_task(12, 12);
            fiction.random = seed;
            fiction.noise = 0.05;
            for (int i = 0; i < 144; i++) fiction.us[i] = 50 + 0.05 * abs(i / 12 - 7) + 0.05 * abs(i % 12 - 5);
            run();
            ck_assert(!outcome.nothing_to_do);
            run();
            ck_assert_msg(outcome.nothing_to_do, "rigor %d, seed %u: %zu candidates more", (int)options.rigor, seed, outcome.timed);
        }
}
END_TEST

START_TEST(beside)
{
    set_task(3, 3);
    ck_assert(tune_beside(variants, 9, 0, 1));
    ck_assert(tune_beside(variants, 9, 0, 3));
    ck_assert(!tune_beside(variants, 9, 0, 2)); /* 1 lies between */
    ck_assert(!tune_beside(variants, 9, 0, 4)); /* two differ */
    ck_assert(!tune_beside(variants, 9, 0, 0));
    snprintf(variants[1].params, sizeof variants[1].params, "block_m=16 warps=2"); /* another template */
    ck_assert(!tune_beside(variants, 9, 0, 1));
    ck_assert(tune_beside(variants, 9, 0, 2)); /* and nothing between any more */
}
END_TEST

Suite *tune_suite(void)
{
    Suite *suite = suite_create("tune");
    TCase *search = tcase_create("search");
    tcase_add_loop_test(search, finds_the_fastest, 0, 3);
    tcase_add_test(search, times_all);
    tcase_add_test(search, stops_losers);
    tcase_add_test(search, waves);
    tcase_add_test(search, bounds_finals);
    tcase_add_test(search, leaves_out);
    tcase_add_test(search, runs_agree);
    tcase_add_test(search, condemns);
    tcase_add_test(search, default_is_kept);
    tcase_add_test(search, throttled_rounds);
    tcase_add_test(search, resumes);
    tcase_add_test(search, interrupted);
    tcase_add_test(search, left_behind);
    tcase_add_test(search, local_search);
    tcase_add_test(search, settles);
    tcase_add_test(search, beside);
    suite_add_tcase(suite, search);
    suite_add_tcase(suite, tune_times_case());
    suite_add_tcase(suite, tune_tasks_case());
    suite_add_tcase(suite, tune_trial_case());
    suite_add_tcase(suite, tune_lists_case());
    return suite;
}
