/*
 * check_tune_trial.c: what the process that runs candidates does with one, on the CPU backend, whose results are right: the
 * small problem in every policy, scope and type, samples at a bucket's shape, a round; and that wrong ones are found out.
 */
#include "tune_case.h"
#include "tune_trial.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TCase *tune_trial_case(void);

static const struct tamisi_force none = {"", ""};
static const struct tune_lists no_lists = {.density = 0};
static tamis_context *cpu;

static void set_up(void)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    ck_assert_int_eq(tamis_context_create(&cpu, &options), TAMIS_OK);
}

static void tear_down(void) { tamis_context_free(cpu); }

static tamis_problem make_problem(tamis_dtype dtype, tamis_policy policy, tamis_scope scope, long long seq_len)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.dtype = dtype;
    problem.q_heads = 8, problem.kv_heads = 4, problem.head_dim = 64, problem.seq_len = seq_len;
    problem.selection.policy = policy;
    problem.selection.scope = scope;
    problem.selection.window = 32;
    problem.selection.min_tokens = 16;
    problem.selection.ratio = 0.5;
    problem.selection.coverage = 0.1;
    return problem;
}

static void must(tamis_status status) { ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error()); }

START_TEST(small_problem)
{
    static const tamis_policy policies[] = {TAMIS_DENSE, TAMIS_RATIO, TAMIS_COVERAGE};
    const tamis_scope scope = (tamis_scope)(_i / 2);
    const tamis_problem problem = make_problem((tamis_dtype)(_i % 2), TAMIS_DENSE, scope, 8192);
    for (size_t p = 0; p < 3; p++) {
        struct tune_case made;
        char why[TUNE_WHY] = "?";
        must(tune_case_make(&made, &problem, policies[p], false));
        ck_assert_int_eq(made.input.problem.q_heads, 4);
        must(tune_case_check(&made, cpu, NULL, &none, why));
        ck_assert_str_eq(why, "");
        const float right[] = {made.output[12345], made.output[12346]};
        made.output[12345] += 1; /* a reference that is wrong is one that the result does not equal */
        made.output[12346] = 1;
        must(tune_case_check(&made, cpu, NULL, &none, why));
        ck_assert_ptr_nonnull(strstr(why, "seq_len 681: "));
        memcpy(&made.output[12345], right, sizeof right);
        must(tune_case_check(&made, cpu, NULL, &none, why));
        ck_assert_str_eq(why, "");
        made.lse[680] += 0.1f; /* of the last token, which is always kept */
        must(tune_case_check(&made, cpu, NULL, &none, why));
        ck_assert_ptr_nonnull(strstr(why, "log-sum-exp"));
        if (policies[p] == TAMIS_RATIO) {
            made.kept[1]--;
            must(tune_case_check(&made, cpu, NULL, &none, why));
            ck_assert_str_ne(why, "");
        }
        tune_case_free(&made);
    }
}
END_TEST

START_TEST(at_the_shape)
{
    struct bench bench;
    struct tune_trial trial;
    char why[TUNE_WHY] = "?";
    must(bench_begin(&bench, cpu, 1, 7));
    bench.sparing = true;
    tune_trial_init(&trial, &bench, NULL, 0);
    for (int round = 0; round < 6; round++) { /* growing, shrinking, of another type */
        static const char *const families[] = {"attend", "score", "select", "compress", "decompress", "attend"};
        const tamis_problem problem = make_problem((tamis_dtype)(round / 3), round % 2 ? TAMIS_RATIO : TAMIS_DENSE,
                                                   TAMIS_SCOPE_HEAD, 300 + 100 * (round % 4));
        const struct tamisi_force force = {problem.selection.policy == TAMIS_DENSE ? "attend" : families[round], "x"};
        struct tune_round times = {0};
        must(tune_trial_set(&trial, &problem, &no_lists));
        must(tune_trial_check(&trial, &force, why));
        ck_assert_str_eq(why, "");
        const unsigned long long random = bench.random;
        must(tune_trial_check(&trial, &force, why)); /* of what the rows must be, which were sampled anew before */
        ck_assert_str_eq(why, "");
        ck_assert_uint_eq(bench.random, random);
        must(tune_trial_time(&trial, &force, &times));
        ck_assert(times.us > 0 && times.cold_us > 0 && times.warm_us > 0 && !times.throttled);
        ck_assert_int_eq(trial.plan_count, 1);
    }
    tune_trial_free(&trial);
    bench_end(&bench);
}
END_TEST

/* Bytes behind an array that were written over, and results that are not right. */
START_TEST(found_out)
{
    static const enum tune_array written[] = {TUNE_OUTPUT, TUNE_WORKSPACE, TUNE_KEPT, TUNE_INDICES, TUNE_SCORE};
    static const char *const names[] = {"output", "workspace", "kept", "indices", "score"};
    const tamis_problem problem = make_problem(TAMIS_BF16, TAMIS_RATIO, TAMIS_SCOPE_KV_GROUP, 500);
    struct bench bench;
    struct tune_trial trial;
    char why[TUNE_WHY] = "?";
    must(bench_begin(&bench, cpu, 1, 7));
    tune_trial_init(&trial, &bench, NULL, 0);
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        must(tune_trial_set(&trial, &problem, &no_lists));
        ((char *)trial.arrays[written[i]].data)[trial.arrays[written[i]].bytes + (i ? 0 : 255)] = 0;
        must(tune_trial_check(&trial, &none, why));
        ck_assert_msg(strstr(why, names[i]) && strstr(why, "behind the end"), "%s", why);
        tune_trial_free(&trial);
        tune_trial_init(&trial, &bench, NULL, 0);
    }
    must(tune_trial_set(&trial, &problem, &no_lists));
    must(tune_trial_check(&trial, &none, why));
    ck_assert_str_eq(why, "");
    trial.memory.heads[0].values[0] += 1; /* what is kept is what is compared with */
    must(tune_trial_check(&trial, &none, why));
    ck_assert_ptr_nonnull(strstr(why, "the error is"));
    trial.memory.heads[0].list[0]++; /* rows of another list are computed for it */
    must(tune_trial_check(&trial, &none, why));
    ck_assert_str_eq(why, "");
    ((uint16_t *)trial.arrays[TUNE_V].data)[499 * 64] = 0x7fc0; /* NaN in a token that is always kept */
    must(tune_trial_check(&trial, &none, why));
    ck_assert_ptr_nonnull(strstr(why, "the error is nan"));
    tune_trial_free(&trial);
    bench_end(&bench);
}
END_TEST

TCase *tune_trial_case(void)
{
    TCase *trials = tcase_create("trials");
    tcase_add_checked_fixture(trials, set_up, tear_down);
    tcase_set_timeout(trials, 400);
    const char *sanitizers = getenv("TAMIS_SANITIZE"); /* for these the other scopes are the same lines */
    tcase_add_loop_test(trials, small_problem, 0, sanitizers && *sanitizers ? 2 : 6);
    tcase_add_test(trials, at_the_shape);
    tcase_add_test(trials, found_out);
    return trials;
}
