/*
 * check_tune_resume.c: what a second search does with the results of the first, and what an interrupted or a killed one leaves.
 */
#include "tune_fiction.h"

/* A rerun times what is new, beside the default and the best; more rigor times all; less nothing. */
START_TEST(resumes)
{
    fiction_set(4, 3);
    tuning.task.count = 9;
    fiction.us[4] = 50;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_4");
    fiction_run();
    ck_assert(tuning.outcome.nothing_to_do);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_4"); /* said all the same */
    ck_assert_int_eq(fiction.rounds, 0);
    tuning.options.rigor = TAMISI_QUICK;
    fiction_run();
    ck_assert(tuning.outcome.nothing_to_do);
    tuning.options.rigor = TAMISI_NORMAL;
    tuning.task.count = 12;
    fiction.us[11] = 40;
    fiction_run();
    for (size_t i = 0; i < tuning.task.count; i++) ck_assert_int_eq(fiction.timed[i] > 0, i == 0 || i == 4 || i >= 9);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_11");
    tuning.options.rigor = TAMISI_EXHAUSTIVE;
    fiction_run();
    for (size_t i = 0; i < tuning.task.count; i++) ck_assert_int_ge(fiction.timed[i], i == 0 || i == 4 || i == 11 ? 15 : 3);
}
END_TEST

START_TEST(interrupted)
{
    fiction_set(4, 2);
    fiction.us[3] = 50;
    fiction.stop_after = 5; /* before everyone has run once */
    fiction_run();
    ck_assert(tuning.outcome.interrupted);
    ck_assert_uint_eq(tuning.row_count, 0);
    fiction.stop_after = 15; /* in the final rounds: what is there is worth something */
    fiction_run();
    ck_assert(tuning.outcome.interrupted);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_3");
    ck_assert_int_eq(fiction_row(3)->rigor, TAMISI_QUICK);
    fiction.stop_after = 0;
    fiction_run();
    ck_assert(!tuning.outcome.interrupted && !tuning.outcome.nothing_to_do);
    ck_assert_int_eq(fiction_row(3)->rigor, TAMISI_NORMAL);
}
END_TEST

/* Journal rows: a killed tuner is no reason to blame a candidate at once; a machine that went down is. */
START_TEST(left_behind)
{
    fiction_set(3, 2);
    fiction.us[2] = 100; /* as good as the default */
    fiction_kill_at(3);
    ck_assert_uint_eq(tuning.row_count, 1);
    ck_assert_int_eq(tuning.rows[0].state, TAMISI_STARTED);
    fiction_run();
    fiction_expect(2, TAMISI_TIMED);
    ck_assert_uint_eq(tuning.row_count, tuning.task.count);

    fiction_set(3, 2);
    fiction_kill_at(3);
    tuning.options.boot = "boot-2";
    fiction_run();
    fiction_expect(2, TAMISI_FAULT);
    ck_assert_int_eq(fiction.checked[2], 0);

    fiction_set(3, 2);
    for (int i = 0; i < TUNE_MOST_STARTS; i++) fiction_kill_at(3);
    fiction_run();
    fiction_expect(2, TAMISI_FAULT);
    ck_assert_int_eq(fiction.checked[2], 0);
    ck_assert_uint_eq(tuning.row_count, tuning.task.count);

    fiction_set(3, 2); /* in another bucket, only who is new needs a row */
    tuning.task.count = 5;
    fiction_run();
    ck_assert_uint_eq(tuning.begun, 5);
    tuning.task.count = 6;
    tuning.task.bucket.seq_len = tuning.task.bucket.kept = 16384;
    fiction_run();
    ck_assert_uint_eq(tuning.begun, 6);
    ck_assert_uint_eq(tuning.outcome.timed, 6);
    ck_assert_uint_eq(tuning.row_count, 11); /* and none is left */
}
END_TEST

TCase *tune_resume_case(void)
{
    TCase *resume = tcase_create("resume");
    tcase_add_test(resume, resumes);
    tcase_add_test(resume, interrupted);
    tcase_add_test(resume, left_behind);
    return resume;
}
