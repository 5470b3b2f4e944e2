/*
 * check_tune_times.c: what rounds come to: medians beside the default of the same turn, and without one.
 */
#include "tune_times.h"

#include <check.h>
#include <string.h>

TCase *tune_times_case(void);

static struct tune_times usual, other;
static struct tamisi_timing result;

static void add(struct tune_times *times, int turn, double us)
{
    tune_times_add(times, &(struct tune_round){.us = us, .cold_us = us + 1, .warm_us = us - 1}, turn);
}

static void start(void)
{
    memset(&usual, 0, sizeof usual);
    memset(&other, 0, sizeof other);
    memset(&result, 0, sizeof result);
}

/* The clock falls between the rounds, and one round is an accident: what is 1 % faster stays so. */
START_TEST(waves)
{
    static const double clock[] = {100, 100, 140, 140, 140};
    start();
    for (int turn = 0; turn < 5; turn++) {
        add(&usual, turn, clock[turn]);
        add(&other, turn, clock[turn] * (turn == 3 ? 2 : 0.99));
    }
    tune_times_result(&result, &other, &usual);
    ck_assert_double_eq_tol(result.median_us, 138.6, 1e-9);
    ck_assert_double_eq_tol(result.mad_us, 0, 1e-9);
    ck_assert_int_eq(result.rounds, 5);
    ck_assert_double_eq_tol(result.cold_us, 139.6, 1e-9);
    ck_assert_double_eq_tol(result.warm_us, 137.6, 1e-9);
    tune_times_result(&result, &usual, &usual);
    ck_assert_double_eq_tol(result.median_us, 140, 1e-9);
    ck_assert_double_eq_tol(result.mad_us, 0, 1e-9);
}
END_TEST

/* Either may have missed turns. */
START_TEST(pairs)
{
    start();
    add(&usual, 0, 10), add(&usual, 2, 20), add(&usual, 3, 20), add(&usual, 7, 40);
    add(&other, 1, 1000), add(&other, 2, 30), add(&other, 5, 1000), add(&other, 7, 80);
    tune_times_result(&result, &other, &usual);
    ck_assert_double_eq_tol(result.median_us, 1.75 * 20, 1e-9);
    ck_assert_double_eq_tol(result.mad_us, 0.25 * 20, 1e-9);
    ck_assert_int_eq(result.rounds, 4);
}
END_TEST

START_TEST(by_itself)
{
    start();
    add(&usual, 0, 10);
    add(&other, 1, 30), add(&other, 2, 31), add(&other, 3, 39);
    for (int i = 0; i < 2; i++) {
        tune_times_result(&result, &other, i ? &usual : NULL);
        ck_assert_double_eq_tol(result.median_us, 31, 1e-9);
        ck_assert_double_eq_tol(result.mad_us, 1, 1e-9);
    }
}
END_TEST

START_TEST(too_many)
{
    start();
    for (int turn = 0; turn < TUNE_MOST_ROUNDS + 10; turn++) {
        add(&usual, turn, 10);
        add(&other, turn, turn < TUNE_MOST_ROUNDS ? 20 : 1000);
    }
    tune_times_result(&result, &other, &usual);
    ck_assert_int_eq(result.rounds, TUNE_MOST_ROUNDS);
    ck_assert_double_eq_tol(result.median_us, 20, 1e-9);
}
END_TEST

TCase *tune_times_case(void)
{
    TCase *times = tcase_create("times");
    tcase_add_test(times, waves);
    tcase_add_test(times, pairs);
    tcase_add_test(times, by_itself);
    tcase_add_test(times, too_many);
    return times;
}
