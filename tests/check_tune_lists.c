/*
 * check_tune_lists.c: what the process that runs candidates does with those of block patterns, on the CPU backend, whose
 * results are right: attention on listed blocks, and makers of lists, on the small problem and at a bucket's shape; and that
 * wrong lists and wrong rows are found out. Part of the tune suite.
 */
#include "tune_case.h"
#include "tune_maker.h"
#include "tune_trial.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

TCase *tune_lists_case(void);

static const struct tamisi_force none = {"", ""};
static tamis_context *cpu;

static void set_up(void)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    ck_assert_int_eq(tamis_context_create(&cpu, &options), TAMIS_OK);
}

static void tear_down(void) { tamis_context_free(cpu); }

static tamis_problem make_problem(tamis_dtype dtype, tamis_scope scope, long long seq_len)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.dtype = dtype;
    problem.q_heads = 8, problem.kv_heads = 4, problem.head_dim = 64, problem.seq_len = seq_len;
    problem.selection.policy = TAMIS_DENSE;
    problem.selection.scope = scope;
    problem.selection.window = 32;
    problem.selection.min_tokens = 16;
    return problem;
}

static struct tune_lists make_lists(tamis_pattern_kind kind, double density)
{
    struct tune_lists lists = {.pattern = TAMIS_PATTERN_INIT, .density = density};
    lists.pattern.kind = kind;
    lists.pattern.flexprefill.min_tokens = 256;
    lists.pattern.topk_blocks.ratio = 0.5;
    return lists;
}

static void must(tamis_status status) { ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error()); }

/* ---- attention on listed blocks */

/* On listed blocks: of all tokens, and of those that were chosen, whose places in the lists are compact rows'. */
START_TEST(small_attention)
{
    const tamis_policy policy = _i / 2 ? TAMIS_RATIO : TAMIS_DENSE;
    const tamis_problem problem = make_problem((tamis_dtype)(_i % 2), TAMIS_SCOPE_HEAD, 8192);
    struct tune_case made;
    char why[TUNE_WHY] = "?";
    must(tune_case_make(&made, &problem, policy, true));
    ck_assert_int_eq(made.mask.tiles, policy == TAMIS_DENSE ? 6 : 3);
    must(tune_case_check(&made, cpu, NULL, &none, why));
    ck_assert_str_eq(why, "");
    made.lse[680] += 0.1f;
    must(tune_case_check(&made, cpu, NULL, &none, why));
    ck_assert_ptr_nonnull(strstr(why, "log-sum-exp"));
    made.lse[680] -= 0.1f;
    /* Another block is another result: of the last query block of each head all that it has is taken away but itself. */
    for (long long head = 0; head < made.mask.heads; head++)
        made.mask.bits[head * made.mask.tiles + made.mask.tiles - 1] = 1u << (made.mask.tiles - 1);
    must(tune_case_check(&made, cpu, NULL, &none, why));
    ck_assert_ptr_nonnull(strstr(why, "the output's error is"));
    tune_case_free(&made);
}
END_TEST

START_TEST(attention_at_the_shape)
{
    const struct tamisi_force force = {"attend_blocks", "x"};
    const tamis_problem problem = make_problem(TAMIS_BF16, TAMIS_SCOPE_HEAD, 1500);
    struct bench bench;
    struct tune_trial trial;
    struct tune_round times = {0};
    char why[TUNE_WHY] = "?";
    must(bench_begin(&bench, cpu, 1, 7));
    bench.sparing = true;
    tune_trial_init(&trial, &bench, NULL, 0);
    for (int d = 0; d < TUNE_DENSITIES; d++) {
        const struct tune_lists lists = make_lists(TAMIS_PATTERN_HOST_BLOCKS, tune_densities[d]), no_lists = {.density = 0};
        must(tune_trial_set(&trial, &problem, &lists));
        must(tune_trial_check(&trial, &force, why));
        ck_assert_str_eq(why, "");
        must(tune_trial_time(&trial, &force, &times));
        ck_assert(times.us > 0);
        const double part = (double)block_mask_count(&trial.mask) / (8 * 12 * 13 / 2);
        ck_assert_double_eq_tol(part, tune_densities[d], 0.08); /* in lists of 1 to 12 */
        const uint32_t first = trial.mask.bits[11];
        must(tune_trial_set(&trial, &problem, &no_lists));
        ck_assert_ptr_null(trial.mask.bits);
        must(tune_trial_set(&trial, &problem, &lists)); /* the same again */
        ck_assert_uint_eq(trial.mask.bits[11], first);
    }
    int32_t *count = trial.arrays[TUNE_BLOCK_COUNT].data;
    count[11]--; /* a block that is not attended to, in the last query block, of which rows are sampled */
    must(tune_trial_check(&trial, &force, why));
    ck_assert_msg(count[11] == 0 || strstr(why, "the error is"), "%d blocks: %s", count[11], why);
    count[11]++;
    ((char *)trial.arrays[TUNE_BLOCK_LIST].data)[trial.arrays[TUNE_BLOCK_LIST].bytes] = 0;
    must(tune_trial_check(&trial, &force, why));
    ck_assert_ptr_nonnull(strstr(why, "behind the end of block list"));
    tune_trial_free(&trial);
    bench_end(&bench);
}
END_TEST

/* ---- makers */

/* Sanitizers look at lines: through all of these goes each maker, of one type and for few heads. */
static bool is_sanitized(void)
{
    const char *sanitizers = getenv("TAMIS_SANITIZE");
    return sanitizers && *sanitizers;
}

static const tamis_pattern_kind kinds[] = {TAMIS_PATTERN_SLIDING, TAMIS_PATTERN_VERTICAL_SLASH, TAMIS_PATTERN_FLEXPREFILL,
                                           TAMIS_PATTERN_XATTENTION, TAMIS_PATTERN_TOPK_BLOCKS};

START_TEST(small_makers)
{
    const tamis_problem problem = make_problem((tamis_dtype)((_i + _i / 5) % 2), TAMIS_SCOPE_HEAD, 8192);
    struct tune_lists lists = make_lists(kinds[_i % 5], 0);
    struct tune_maker_case made;
    char why[TUNE_WHY] = "?";
    lists.pattern.flexprefill.min_tokens = 1024; /* which would list all of so few tokens */
    must(tune_maker_case_make(&made, &problem, &lists.pattern));
    ck_assert_int_eq(made.problem.q_heads, 4);
    ck_assert_int_eq(made.reference.tiles, 20);
    long long listed = 0;
    for (int head = 0; head < 8; head++)
        for (int tile = 0; tile < 17; tile++) listed += made.reference.count[head * 20 + tile];
    ck_assert_msg(listed > 8 * 17 && listed < 8 * 153 * 0.8, "%lld blocks are listed", listed); /* some are left out */
    must(tune_maker_case_check(&made, cpu, NULL, &none, why));
    ck_assert_str_eq(why, "");
    for (int head = 0; head < 8; head++) made.reference.list[(head * 20 + 16) * 20] ^= 1; /* another block, in all heads */
    must(tune_maker_case_check(&made, cpu, NULL, &none, why));
    ck_assert_ptr_nonnull(strstr(why, "seq_len 2437: in 8 of 8 heads other blocks are listed"));
    tune_maker_case_free(&made);
}
END_TEST

/* What is a tie, and what is not. */
START_TEST(lists_compared)
{
    struct tune_made made, reference;
    const int32_t rows[] = {1280, 1000};
    char why[TUNE_WHY];
    must(tune_made_alloc(&made, 16, 10));
    must(tune_made_alloc(&reference, 16, 10));
    struct tune_made *both[] = {&made, &reference};
    for (int m = 0; m < 2; m++)
        for (int list = 0; list < 160; list++) {
            const int tile = list % 10;
            both[m]->count[list] = (tile + 2) / 2; /* every other block */
            for (int e = 0; e < both[m]->count[list]; e++) both[m]->list[10 * list + e] = 2 * e;
        }
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "");
    made.list[10 * 9 + 4] = 9; /* the last but one of head 0's last list */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "");
    made.list[10 * 9 + 3] = 7; /* a second one */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "head 0: of query block 9, 5 blocks are listed, not 5, and 4 are others");
    made.list[10 * 9 + 3] = 6;
    made.list[10 * 19 + 4] = 9; /* in as many heads as may be */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "");
    made.list[10 * 29 + 4] = 9;
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "in 3 of 16 heads other blocks are listed");
    made.list[10 * 29 + 4] = 8;
    made.count[158] = 77; /* behind the rows of the second sequence: whatever */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "");
    made.count[157] = 9; /* more than there are before the diagonal */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "head 15: the list of query block 7 is no list");
    made.count[157] = 4;
    made.list[10 * 157 + 1] = 0; /* twice */
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "head 15: the list of query block 7 is no list");
    made.list[10 * 157 + 1] = 2;
    made.list[10 * 157] = reference.list[10 * 157] = 1 << 20; /* masks are compared by what they say */
    made.masks[3] = 1;
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "in 3 of 16 heads other blocks are listed");
    reference.masks[3] = 1;
    tune_made_compare(&made, &reference, rows, 2, why);
    ck_assert_str_eq(why, "");
    tune_made_free(&made);
    tune_made_free(&reference);
}
END_TEST

/* Q and K with structure, then plain ones again; what all candidates are compared with is made once. */
START_TEST(makers_at_the_shape)
{
    tamis_problem problem = make_problem(TAMIS_BF16, TAMIS_SCOPE_HEAD, 1500);
    const struct tune_lists lists = make_lists(kinds[_i], 0), no_lists = {.density = 0};
    const struct tamisi_force force = {"pattern", "x"}, attend = {"attend", "x"};
    struct bench bench;
    struct tune_trial trial;
    struct tune_round times = {0};
    char why[TUNE_WHY] = "?";
    if (is_sanitized()) problem.q_heads = 2, problem.kv_heads = 1;
    must(bench_begin(&bench, cpu, 1, 7));
    bench.sparing = true;
    tune_trial_init(&trial, &bench, NULL, 0);
    must(tune_trial_set(&trial, &problem, &lists));
    must(tune_trial_check(&trial, &force, why));
    ck_assert_str_eq(why, "");
    const int32_t *list = trial.reference.list;
    must(tune_trial_check(&trial, &force, why));
    ck_assert_str_eq(why, "");
    ck_assert_ptr_eq(trial.reference.list, list);
    must(tune_trial_time(&trial, &force, &times));
    ck_assert(times.us > 0);
    ck_assert_int_eq(trial.plan_count, 1);
    ck_assert_int_gt(trial.reference.count[11], 2);
    trial.reference.count[11] = 0;
    must(tune_trial_check(&trial, &force, why));
    ck_assert_ptr_nonnull(strstr(why, "head 0: of query block 11"));
    ((char *)trial.arrays[TUNE_BLOCK_COUNT].data)[trial.arrays[TUNE_BLOCK_COUNT].bytes] = 0;
    must(tune_trial_check(&trial, &force, why));
    ck_assert_ptr_nonnull(strstr(why, "behind the end of block count"));
    const uint16_t structured = ((uint16_t *)trial.arrays[TUNE_Q].data)[0];
    must(tune_trial_set(&trial, &problem, &no_lists));
    ck_assert_ptr_null(trial.reference.list);
    ck_assert(((uint16_t *)trial.arrays[TUNE_Q].data)[0] != structured); /* eight, of every query */
    must(tune_trial_check(&trial, &attend, why));
    ck_assert_str_eq(why, "");
    tune_trial_free(&trial);
    bench_end(&bench);
}
END_TEST

TCase *tune_lists_case(void)
{
    TCase *lists = tcase_create("lists");
    tcase_add_checked_fixture(lists, set_up, tear_down);
    tcase_set_timeout(lists, 400);
    tcase_add_loop_test(lists, small_attention, 0, 4);
    tcase_add_test(lists, attention_at_the_shape);
    tcase_add_loop_test(lists, small_makers, 0, is_sanitized() ? 5 : 10);
    tcase_add_test(lists, lists_compared);
    tcase_add_loop_test(lists, makers_at_the_shape, 0, 5);
    return lists;
}
