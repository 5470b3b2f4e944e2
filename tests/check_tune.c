/*
 * check_tune.c: the search with fictional devices: who is found, who is stopped, left out or condemned. And the suite.
 */
#include "tune_fiction.h"

#include <string.h>

Suite *tune_suite(void);
TCase *tune_times_case(void); /* check_tune_times.c */
TCase *tune_trial_case(void); /* check_tune_trial.c */
TCase *tune_lists_case(void); /* check_tune_lists.c */
TCase *tune_tasks_case(void); /* check_tune_tasks.c */

START_TEST(finds_the_fastest)
{
    static const enum tamisi_rigor rigors[] = {TAMISI_QUICK, TAMISI_NORMAL, TAMISI_EXHAUSTIVE};
    fiction_set(4, 3);
    fiction.us[7] = 60;
    fiction.noise = 0.01;
    fiction.drift = 1e-4; /* a GPU that gets warm */
    tuning.options.rigor = rigors[_i];
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_7");
    ck_assert_uint_eq(tuning.outcome.timed, 12);
    ck_assert_double_gt(tuning.outcome.default_us / tuning.outcome.chosen_us, 1.5);
    fiction_expect(7, TAMISI_TIMED);
    fiction_expect(0, TAMISI_TIMED); /* the default runs to the end, to be measured against */
    for (size_t i = 0; i < tuning.task.count; i++) {
        ck_assert_ptr_nonnull(fiction_row(i));
        ck_assert_int_eq(fiction_row(i)->rigor, tuning.options.rigor);
        ck_assert_int_eq(fiction_row(i)->rounds, fiction.timed[i]);
    }
    ck_assert_uint_eq(tuning.row_count, tuning.task.count); /* no journal row is left */
    ck_assert_uint_eq(tuning.transactions, 1);
    ck_assert_double_gt(fiction_row(7)->cold_us, fiction_row(7)->warm_us);
    ck_assert_int_eq(fiction_row(7)->sm_mhz, 1980);
}
END_TEST

/* Exhaustive: to the end, but for what cannot be near the best. */
START_TEST(times_all)
{
    fiction_set(4, 3);
    fiction.us[7] = 80;
    fiction.us[9] = 140;
    fiction.noise = 0.01;
    tuning.options.rigor = TAMISI_EXHAUSTIVE;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_7");
    for (size_t i = 0; i < tuning.task.count; i++) {
        ck_assert_int_eq(fiction.timed[i], i == 9 ? 3 : 15);
        fiction_expect(i, i == 9 ? TAMISI_STOPPED : TAMISI_TIMED);
    }

    fiction_set(4, 3);
    fiction.us[7] = 80;
    fiction.us[8] = 80.2; /* what is near takes more, with the default beside it; what is beaten does not */
    fiction.noise = 0.02;
    tuning.options.rigor = TAMISI_EXHAUSTIVE;
    fiction_run();
    for (size_t i = 0; i < tuning.task.count; i++) {
        ck_assert_int_eq(fiction.timed[i], i == 0 || i == 7 || i == 8 ? 25 : 15);
        fiction_expect(i, TAMISI_TIMED);
    }
}
END_TEST

/* What takes twice the best's time after the first rounds is timed no more. */
START_TEST(stops_losers)
{
    fiction_set(4, 3);
    for (int i = 4; i < 12; i++) fiction.us[i] = 400;
    fiction_run();
    for (size_t i = 4; i < 12; i++) {
        ck_assert_int_eq(fiction.timed[i], 1);
        fiction_expect(i, TAMISI_STOPPED);
    }
    fiction.us[0] = 1000; /* but for the default */
    tuning.row_count = 0;
    fiction_run();
    fiction_expect(0, TAMISI_TIMED);
    ck_assert_int_ge(fiction.timed[0], 5);
}
END_TEST

/* A clock that falls by a tenth for a while, and comes back, decides nothing between kernels that are 1 % apart. */
START_TEST(waves)
{
    for (int k = 0; k < 40; k++) {
        fiction_set(4, 1);
        fiction.wave = 0.1;
        fiction.noise = 0.002;
        fiction.random = (unsigned)k;
        fiction.us[1] = 99;
        fiction_run();
        ck_assert_msg(strcmp(tuning.outcome.chosen, "attend_1") == 0, "run %d chooses %s", k, tuning.outcome.chosen);
        ck_assert_double_eq_tol(tuning.outcome.chosen_us / tuning.outcome.default_us, 0.99, 0.003);
    }
}
END_TEST

/* Twenty-five rounds are for those that noise does not tell apart; who is beaten for certain costs no more of them. */
START_TEST(bounds_finals)
{
    for (int noisy = 0; noisy < 2; noisy++) {
        const int rounds = noisy ? 25 : 9; /* who is within half a percent for certain needs no more either */
        fiction_set(4, 3);
        for (int i = 0; i < 12; i++) fiction.us[i] = i == 5 ? 90 : i == 6 ? 90.1 : 100 + i;
        fiction.noise = noisy * 0.02;
        fiction_run();
        ck_assert_str_eq(tuning.outcome.chosen, "attend_5");
        ck_assert_int_eq(fiction.timed[5], rounds);
        ck_assert_int_eq(fiction.timed[6], rounds);
        fiction_expect(6, TAMISI_TIMED);
        ck_assert_int_eq(fiction.timed[1], 9); /* third of four finalists */
        fiction_expect(1, TAMISI_STOPPED);
        ck_assert_int_eq(fiction.timed[0], rounds);
        fiction_expect(0, TAMISI_TIMED);
    }

    fiction_set(4, 3);
    fiction.us[5] = 90;
    fiction_run();
    ck_assert_int_eq(fiction.timed[5], 9); /* nobody is near */
    ck_assert_int_eq(fiction.timed[0], 9);
    fiction_expect(0, TAMISI_TIMED);
    ck_assert_double_eq_tol(tuning.outcome.default_us / tuning.outcome.chosen_us, 100.0 / 90, 1e-9);
}
END_TEST

/* At a greater length, who was far behind is left out: where runs are long, and but for the default and exhaustive rigor. */
START_TEST(leaves_out)
{
    fiction_set(4, 3);
    for (int i = 0; i < 12; i++) fiction.us[i] = i == 3 ? 3000 : i < 6 ? 4000 : 6000;
    fiction.us[0] = 6000;
    fiction_run();
    ck_assert_uint_eq(tuning.outcome.timed, 12);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 32768;
    fiction_run();
    for (int i = 0; i < 12; i++) ck_assert_int_eq(fiction.checked[i], i < 6);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_3");
    fiction_run(); /* a second run leaves out the same */
    ck_assert(tuning.outcome.nothing_to_do);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 65536; /* those without a time at 32768 too */
    fiction_run();
    for (int i = 0; i < 12; i++) ck_assert_int_eq(fiction.checked[i], i < 6);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 4096; /* a shorter one says nothing of a longer */
    fiction_run();
    ck_assert_uint_eq(tuning.outcome.timed, 12);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 32768;
    tuning.task.bucket.dense = false, tuning.task.bucket.kept = 8192; /* nor a dense one of a sparse one */
    fiction_run();
    ck_assert_uint_eq(tuning.outcome.timed, 12);
    tuning.task.bucket.dense = true, tuning.task.bucket.kept = 32768;
    tuning.options.rigor = TAMISI_EXHAUSTIVE;
    fiction_run();
    ck_assert_uint_eq(tuning.outcome.timed, 12);

    fiction_set(4, 3); /* short runs: what is slow there may be fast in longer ones */
    fiction.us[11] = 500;
    fiction_run();
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 32768;
    fiction_run();
    ck_assert_uint_eq(tuning.outcome.timed, 12);
}
END_TEST

/* Two runs with other noise choose alike, and a candidate within the noise of the default does not replace it. */
START_TEST(runs_agree)
{
    fiction_set(2, 3);
    const char *chosen = NULL;
    for (int i = 0; i < 6; i++) fiction.us[i] = 100 - 0.03 * i;
    for (unsigned seed = 0; seed < 40; seed++) {
        tuning.row_count = 0;
        fiction.random = seed;
        fiction.noise = 0.003;
        fiction_run();
        if (!chosen) chosen = tuning.outcome.chosen;
        ck_assert_str_eq(tuning.outcome.chosen, "attend_0");
        ck_assert_str_eq(tuning.outcome.chosen, chosen);
        ck_assert_double_eq(tuning.outcome.chosen_us, tuning.outcome.default_us);
    }
}
END_TEST

START_TEST(condemns)
{
    fiction_set(4, 2);
    fiction.compiles[1] = TUNE_REFUSED;
    fiction.checks[2] = TUNE_WRONG, fiction.us[2] = 1; /* fast and wrong */
    fiction.checks[3] = TUNE_HANG;
    fiction.times[4] = TUNE_FAULT; /* only when it runs often */
    fiction.spills[5] = 8;
    fiction_run();
    fiction_expect(1, TAMISI_REFUSED);
    fiction_expect(2, TAMISI_WRONG);
    fiction_expect(3, TAMISI_HANG);
    fiction_expect(4, TAMISI_FAULT);
    fiction_expect(5, TAMISI_REFUSED);
    ck_assert_ptr_nonnull(strstr(fiction_row(5)->note, "spills 8 bytes"));
    ck_assert_str_eq(fiction_row(2)->note, "error 0.5");
    ck_assert_uint_eq(tuning.outcome.refused, 2);
    ck_assert_uint_eq(tuning.outcome.bad, 3);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_0");
    ck_assert_int_eq(fiction.checked[1] + fiction.checked[5], 0);
    ck_assert_int_eq(fiction.timed[2] + fiction.timed[3], 0);
    ck_assert_int_eq(fiction.timed[4], 1);
    fiction_run(); /* and none of them is tried again */
    ck_assert(tuning.outcome.nothing_to_do);
    ck_assert_int_eq(fiction.rounds, 0);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 16384; /* nor where the shape is another, but for what was refused */
    fiction_run();
    for (int i = 2; i < 5; i++) ck_assert_int_eq(fiction.checked[i], 0);
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 8192;
    tuning.options.rigor = TAMISI_EXHAUSTIVE;
    fiction_run();
    for (int i = 1; i < 6; i++) ck_assert_int_eq(fiction.checked[i], 0);
    ck_assert_int_eq(fiction.checked[6], 1);
    tuning.options.again = true; /* unless asked for */
    fiction.checks[2] = TUNE_RIGHT;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_2");
}
END_TEST

/* The default may spill: it is what runs without tuning. */
START_TEST(default_is_kept)
{
    fiction_set(2, 2);
    fiction.spills[0] = 100;
    fiction_run();
    fiction_expect(0, TAMISI_TIMED);
    fiction_set(2, 2);
    fiction.checks[0] = TUNE_WRONG;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_1");
    ck_assert_double_eq(tuning.outcome.default_us, 0);
}
END_TEST

START_TEST(throttled_rounds)
{
    fiction_set(2, 2);
    fiction.us[1] = 50;
    fiction.throttled[1] = 2;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_1");
    ck_assert_int_eq(fiction_row(1)->dropped, 2);
    ck_assert_double_eq_tol(fiction_row(1)->median_us, 50, 1e-9);
    fiction_set(2, 2);
    for (int i = 0; i < 4; i++) fiction.throttled[i] = 1 << 20; /* for good: it still comes to an end */
    fiction_run();
    ck_assert_ptr_null(tuning.outcome.chosen);
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
    suite_add_tcase(suite, search);
    suite_add_tcase(suite, tune_resume_case());
    suite_add_tcase(suite, tune_local_case());
    suite_add_tcase(suite, tune_times_case());
    suite_add_tcase(suite, tune_tasks_case());
    suite_add_tcase(suite, tune_trial_case());
    suite_add_tcase(suite, tune_lists_case());
    return suite;
}
