/*
 * check_tune_local.c: the search of a large space: from a sample by steps, to what has nothing better beside it.
 */
#include "tune_fiction.h"

#include <stdio.h>
#include <stdlib.h>

/* A large space with one valley: found from a sample, by steps, with a part of the candidates tried. */
START_TEST(local_search)
{
    fiction_set(20, 20);
    int tried = 0;
    for (int i = 0; i < 400; i++) fiction.us[i] = 50 + 3 * abs(i / 20 - 13) + 2 * abs(i % 20 - 6);
    fiction.noise = 0.002;
    fiction_run();
    ck_assert_str_eq(tuning.outcome.chosen, "attend_266"); /* 13, 6 */
    for (int i = 0; i < 400; i++) tried += fiction.checked[i] > 0;
    ck_assert_int_lt(tried, 120);
    ck_assert_int_gt(tried, 32);
    fiction_run(); /* what the search left out, it leaves out */
    ck_assert(tuning.outcome.nothing_to_do);
    ck_assert_str_eq(tuning.outcome.chosen, "attend_266");
    ck_assert_int_eq(fiction.rounds, 0);
}
END_TEST

/* Among candidates that noise tells apart, another may lead at the end than on the way: what is beside that one is tried too,
   so that a second run has nothing to do. */
START_TEST(settles)
{
    for (int rigor = TAMISI_QUICK; rigor <= TAMISI_NORMAL; rigor++)
        for (unsigned seed = 0; seed < 40; seed++) {
            fiction_set(12, 12);
            tuning.options.rigor = (enum tamisi_rigor)rigor;
            fiction.random = seed;
            fiction.noise = 0.05;
            for (int i = 0; i < 144; i++) fiction.us[i] = 50 + 0.05 * abs(i / 12 - 7) + 0.05 * abs(i % 12 - 5);
            fiction_run();
            ck_assert(!tuning.outcome.nothing_to_do);
            fiction_run();
            ck_assert_msg(tuning.outcome.nothing_to_do, "rigor %d, seed %u: %zu candidates more", rigor, seed,
                          tuning.outcome.timed);
        }
}
END_TEST

START_TEST(beside)
{
    fiction_set(3, 3);
    ck_assert(tune_beside(tuning.variants, 9, 0, 1));
    ck_assert(tune_beside(tuning.variants, 9, 0, 3));
    ck_assert(!tune_beside(tuning.variants, 9, 0, 2)); /* 1 lies between */
    ck_assert(!tune_beside(tuning.variants, 9, 0, 4)); /* two differ */
    ck_assert(!tune_beside(tuning.variants, 9, 0, 0));
    snprintf(tuning.variants[1].params, sizeof tuning.variants[1].params, "block_m=16 warps=2"); /* another template */
    ck_assert(!tune_beside(tuning.variants, 9, 0, 1));
    ck_assert(tune_beside(tuning.variants, 9, 0, 2)); /* and nothing between any more */
}
END_TEST

TCase *tune_local_case(void)
{
    TCase *local = tcase_create("local");
    tcase_add_test(local, local_search);
    tcase_add_test(local, settles);
    tcase_add_test(local, beside);
    return local;
}
