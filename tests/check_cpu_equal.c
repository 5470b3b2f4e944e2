/*
 * check_cpu_equal.c: the checker of gen/equal.h on results with one thing wrong, or just not wrong, each.
 */
#define _GNU_SOURCE
#include "cpu_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

TCase *cpu_equal_case(void);

/* A random case of 268 candidates of which 100 are kept, computed in double, with room to spoil it. */
struct spoiled {
    struct cpu_case c;
    struct equal_case reference;
    struct equal_result result;
    struct equal_report report;
};

static void spoiled_open(struct spoiled *s, tamis_policy policy)
{
    *s = (struct spoiled){.c = CPU_CASE_INIT};
    tamis_problem *problem = &s->c.problem;
    problem->q_heads = 2;
    problem->kv_heads = 1;
    problem->head_dim = 64;
    problem->seq_len = 300;
    problem->selection = (tamis_selection){policy, TAMIS_SCOPE_HEAD, 32, 1, 0, 0.25, 1.0, 100};
    s->c.precision = TAMIS_FP64;
    cpu_case_open(&s->c);
    cpu_case_reference(&s->c);
    cpu_case_run(&s->c);
    s->reference = (struct equal_case){.problem = problem,
                                       .q = s->c.q,
                                       .k = s->c.k,
                                       .v = s->c.v,
                                       .score = s->c.reference_score,
                                       .kept = s->c.reference_kept,
                                       .indices = s->c.reference_indices,
                                       .capacity = s->c.reference_capacity};
    s->result = (struct equal_result){s->c.kept, s->c.indices, s->c.capacity, s->c.wide};
}

/* The verdict, and what the message begins with; NULL: equal. */
static void spoiled_check(struct spoiled *s, const char *message)
{
    ck_assert_int_eq(equal_check(&s->report, &s->reference, &s->result), TAMIS_OK);
    ck_assert_msg(s->report.equal == (message == NULL), "%s", s->report.message);
    if (message) ck_assert_msg(strncmp(s->report.message, message, strlen(message)) == 0, "%s", s->report.message);
}

/* Where in head 0's list, and which of its candidates is not in it. */
static int first_dropped(const struct spoiled *s)
{
    int position = 0;
    while (s->c.indices[position] == position) position++;
    return position;
}

static void move_first_dropped_in(struct spoiled *s)
{
    const int dropped = first_dropped(s); /* entries before it are 0 .. dropped - 1: the next one makes room */
    s->c.indices[dropped] = dropped;
}

static void set_float(struct spoiled *s, int token, uint32_t bits)
{
    memcpy(s->c.wide + token * 64 + 5, &bits, sizeof bits);
}

static void scale_head(struct spoiled *s, float factor)
{
    for (int i = 0; i < 300 * 64; i++) s->c.wide[i] *= factor;
}

static void spoil_nothing(struct spoiled *s) { (void)s; }
static void spoil_choice(struct spoiled *s) { move_first_dropped_in(s); }
static void spoil_order(struct spoiled *s) { s->c.indices[1] = s->c.indices[0]; }
static void spoil_range(struct spoiled *s) { s->c.indices[0] = -1; }
static void spoil_window(struct spoiled *s) { s->c.indices[s->c.kept[0] - 32]--; }
static void spoil_count(struct spoiled *s) { s->c.kept[0]--; }
static void spoil_capacity(struct spoiled *s) { s->c.kept[0] = 1 + (int)s->c.capacity; }
static void spoil_dropped(struct spoiled *s) { set_float(s, first_dropped(s), 1); }
static void spoil_zero(struct spoiled *s) { set_float(s, first_dropped(s), 0x80000000u); }
static void spoil_nan(struct spoiled *s) { set_float(s, 299, 0x7fc00000u); }
static void spoil_much(struct spoiled *s) { scale_head(s, 1.0060f); }
static void spoil_little(struct spoiled *s) { scale_head(s, 1.0015f); }
static const struct {
    void (*spoil)(struct spoiled *s);
    const char *message;
} spoils[] = {{spoil_nothing, NULL},
              {spoil_choice, "sequence 0, list 0: token "},
              {spoil_order, "sequence 0, list 0: entry 1 is "},
              {spoil_range, "sequence 0, list 0: entry 0 is -1, which is out of order, out of range or not the window's"},
              {spoil_window, "sequence 0, list 0: entry 100 is 267, which is out of order"},
              {spoil_count, "sequence 0: 131 tokens kept, not 132"},
              {spoil_capacity, "sequence 0: 133 tokens kept, with room for 132"},
              {spoil_dropped, "sequence 0, head 0: token "},
              {spoil_zero, "sequence 0, head 0: token "},
              {spoil_nan, "sequence 0, head 0: token 299 has a NaN"},
              {spoil_much, "sequence 0, head 0: the output's error is 0.006"},
              {spoil_little, NULL}};

START_TEST(spoiled_result)
{
    struct spoiled s;
    spoiled_open(&s, TAMIS_COUNT);
    spoils[_i].spoil(&s);
    spoiled_check(&s, spoils[_i].message);
    cpu_case_close(&s.c);
}
END_TEST

/* Head 0's kept candidate with the lowest score goes; the dropped one with the highest comes. */
static void swap_at_threshold(struct spoiled *s, int *out, int *in)
{
    const float *score = s->c.reference_score;
    bool kept[268] = {false};
    int count = 0;
    for (int i = 0; i < 100; i++) kept[s->c.indices[i]] = true;
    *out = *in = -1;
    for (int j = 0; j < 268; j++) {
        if (kept[j] && (*out < 0 || score[j] < score[*out])) *out = j;
        if (!kept[j] && (*in < 0 || score[j] > score[*in])) *in = j;
    }
    kept[*out] = false;
    kept[*in] = true;
    for (int j = 0; j < 268; j++)
        if (kept[j]) s->c.indices[count++] = j;
}

/* Head 0's output for the list at hand. */
static void attend_again(struct spoiled *s)
{
    double row[64], scratch[300];
    memset(s->c.wide, 0, 300 * 64 * sizeof *s->c.wide);
    for (int i = 0; i < s->c.kept[0]; i++) {
        equal_attend_row(row, &s->c.problem, s->c.q, s->c.k, s->c.v, s->c.indices, i, scratch);
        for (int d = 0; d < 64; d++) s->c.wide[s->c.indices[i] * 64 + d] = (float)row[d];
    }
}

/* Two tokens may change places within 2^-12 of the threshold, not beyond. The output must be that of the list it has. */
START_TEST(threshold_tolerance)
{
    static const float distances[] = {0x1p-13f, 0x1p-11f, 0x1p-13f};
    struct spoiled s;
    int out, in;
    spoiled_open(&s, TAMIS_COUNT);
    swap_at_threshold(&s, &out, &in);
    s.c.reference_score[in] = s.c.reference_score[out] * (1.0f - distances[_i]);
    if (_i < 2) attend_again(&s);
    ck_assert_int_eq(equal_check(&s.report, &s.reference, &s.result), TAMIS_OK);
    ck_assert_msg(s.report.equal == (_i == 0), "%s", s.report.message);
    ck_assert_int_eq(s.report.positions_differ, 1); /* the one that came; the one that went has the very threshold */
    ck_assert_double_eq_tol(s.report.threshold_distance, (double)distances[_i], 1e-6);
    if (_i < 2) ck_assert_int_eq(s.report.heads_computed, 2);
    if (_i == 1) ck_assert_msg(strstr(s.report.message, "is kept at a pooled score of") != NULL, "%s", s.report.message);
    if (_i == 2) ck_assert_msg(strstr(s.report.message, "was dropped, but") != NULL, "%s", s.report.message);
    cpu_case_close(&s.c);
}
END_TEST

/* fp16 has the tighter limit. The case's output is of bf16, but here only the comparison with a given reference counts. */
START_TEST(limit_of_dtype)
{
    struct spoiled s;
    spoiled_open(&s, TAMIS_COUNT);
    const size_t elements = cpu_case_elements(&s.c, 2);
    s.c.reference_output = malloc(elements * sizeof(float));
    ck_assert_ptr_nonnull(s.c.reference_output);
    memcpy(s.c.reference_output, s.c.wide, elements * sizeof(float));
    s.reference.output = s.c.reference_output;
    scale_head(&s, 1.0015f);
    s.c.problem.dtype = _i ? TAMIS_FP16 : TAMIS_BF16;
    spoiled_check(&s, _i ? "sequence 0, head 0: the output's error is 0.0015, at most 0.001 is equal" : NULL);
    ck_assert_int_eq(s.report.heads_computed, 0);
    cpu_case_close(&s.c);
}
END_TEST

/* A count that is off by one is equal if the prefix sums there are the coverage, within 1e-6. */
START_TEST(coverage_tolerance)
{
    static const double distances[] = {5e-7, 2e-6};
    struct spoiled s;
    double mean[268], total = 0, sum = 0;
    spoiled_open(&s, TAMIS_COVERAGE);
    const float *score = s.c.reference_score;
    for (int j = 0; j < 268; j++) total += mean[j] = ((double)score[j] + (double)score[268 + j]) / 2;
    for (int i = 1; i < 268; i++) /* insertion sort */
        for (int j = i; j > 0 && mean[j] < mean[j - 1]; j--) {
            const double other = mean[j];
            mean[j] = mean[j - 1];
            mean[j - 1] = other;
        }
    /* The reference drops `drop`; with a coverage just above the next prefix sum, one more would go. */
    const int drop = 268 - (s.c.reference_kept[0] - 32) - 1;
    for (int j = 0; j <= drop; j++) sum += mean[j] / total;
    s.c.problem.selection.coverage = sum / (1 + distances[_i]);
    s.c.reference_kept[0]--;
    equal_check(&s.report, &s.reference, &s.result);
    ck_assert_int_eq(s.report.kept_differ, 1);
    ck_assert_msg(s.report.equal == (_i == 0), "%s", s.report.message);
    cpu_case_close(&s.c);
}
END_TEST

START_TEST(norm_error)
{
    const float a[] = {3.0f, 4.0f}, b[] = {3.0f, 4.5f}, zero[] = {0.0f, 0.0f};
    ck_assert_double_eq_tol(equal_norm_error(b, a, 2), 0.1, 1e-12);
    ck_assert_double_eq_tol(equal_norm_error(a, zero, 2), 5.0, 1e-12);
    ck_assert_double_eq(equal_norm_error(zero, zero, 2), 0.0);
}
END_TEST

TCase *cpu_equal_case(void)
{
    TCase *equal = tcase_create("equal");
    tcase_add_loop_test(equal, spoiled_result, 0, (int)(sizeof spoils / sizeof *spoils));
    tcase_add_loop_test(equal, threshold_tolerance, 0, 3);
    tcase_add_loop_test(equal, limit_of_dtype, 0, 2);
    tcase_add_loop_test(equal, coverage_tolerance, 0, 2);
    tcase_add_test(equal, norm_error);
    return equal;
}
