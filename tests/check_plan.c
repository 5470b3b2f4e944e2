/*
 * check_plan.c: what follows from a problem: each member's range at both its ends, facts and workspaces against values
 * computed by hand, and that neither depends on what it must not.
 */
#include "plan.h"

#include <check.h>
#include <limits.h>
#include <math.h>
#include <string.h>

Suite *plan_suite(void);

/* Llama-3.1-8B at 4K: N = 4096 - 128 = 3968. */
static tamis_problem base_problem(void)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.q_heads = 32;
    problem.kv_heads = 8;
    problem.head_dim = 128;
    problem.seq_len = 4096;
    problem.selection.policy = TAMIS_COVERAGE;
    problem.selection.coverage = 0.005;
    return problem;
}

/* ---- ranges */

static void set_member(tamis_problem *problem, const char *member, double value)
{
    tamis_selection *selection = &problem->selection;
    if (strcmp(member, "dtype") == 0) problem->dtype = (tamis_dtype)(int)value;
    if (strcmp(member, "batch") == 0) problem->batch = (int32_t)value;
    if (strcmp(member, "q_heads") == 0) problem->q_heads = (int32_t)value;
    if (strcmp(member, "kv_heads") == 0) problem->kv_heads = (int32_t)value;
    if (strcmp(member, "head_dim") == 0) problem->head_dim = (int32_t)value;
    if (strcmp(member, "seq_len") == 0) problem->seq_len = (int64_t)value;
    if (strcmp(member, "scale") == 0) problem->scale = value;
    if (strcmp(member, "policy") == 0) selection->policy = (tamis_policy)(int)value;
    if (strcmp(member, "scope") == 0) selection->scope = (tamis_scope)(int)value;
    if (strcmp(member, "window") == 0) selection->window = (int32_t)value;
    if (strcmp(member, "pool") == 0) selection->pool = (int32_t)value;
    if (strcmp(member, "min_tokens") == 0) selection->min_tokens = (int64_t)value;
    if (strcmp(member, "mask") == 0) selection->policy = TAMIS_DENSE, problem->mask = (tamis_mask)(int)value;
    if (strcmp(member, "coverage") == 0) selection->policy = TAMIS_COVERAGE, selection->coverage = value;
    if (strcmp(member, "ratio") == 0) selection->policy = TAMIS_RATIO, selection->ratio = value;
    if (strcmp(member, "count") == 0) selection->policy = TAMIS_COUNT, selection->count = (int64_t)value;
}

static const struct {
    const char *member;
    double value;
    const char *message; /* NULL: a valid value */
} ranges[] = {
    {"dtype", TAMIS_BF16, NULL}, {"dtype", TAMIS_FP16, NULL},
    {"dtype", 2, "dtype is 2: it must be TAMIS_BF16 or TAMIS_FP16"}, {"dtype", -1, "dtype is -1"},
    {"batch", 0, "batch is 0: it must be 1 to 65535"}, {"batch", -1, "batch is -1"}, {"batch", 1, NULL},
    {"batch", 8191, NULL}, {"batch", 8192, "batch * kv_heads is 65536: it must be 1 to 65535"},
    {"batch", 65536, "batch is 65536"}, {"batch", INT_MAX, "batch is 2147483647"},
    {"batch", INT_MIN, "batch is -2147483648"},
    {"q_heads", 0, "q_heads is 0: it must be 1 to 1024"}, {"q_heads", -8, "q_heads is -8"}, {"q_heads", 8, NULL},
    {"q_heads", 1024, NULL}, {"q_heads", 1032, "q_heads is 1032"},
    {"q_heads", 36, "q_heads is 36: it must be a multiple of kv_heads, 8"},
    {"q_heads", 4, "q_heads is 4: it must be a multiple of kv_heads, 8"},
    {"kv_heads", 0, "kv_heads is 0: it must be 1 to 1024"}, {"kv_heads", -1, "kv_heads is -1"}, {"kv_heads", 1, NULL},
    {"kv_heads", 32, NULL}, {"kv_heads", 1025, "kv_heads is 1025"}, {"kv_heads", INT_MIN, "kv_heads is -2147483648"},
    {"head_dim", 64, NULL}, {"head_dim", 96, NULL}, {"head_dim", 128, NULL}, {"head_dim", 256, NULL},
    {"head_dim", 0, "head_dim is 0: it must be 64, 96, 128 or 256"}, {"head_dim", 80, "head_dim is 80"},
    {"head_dim", -64, "head_dim is -64"}, {"head_dim", 512, "head_dim is 512"},
    {"seq_len", 0, "seq_len is 0: it must be 1 to 16777216"}, {"seq_len", -1, "seq_len is -1"}, {"seq_len", 1, NULL},
    {"seq_len", 16777216, NULL}, {"seq_len", 16777217, "seq_len is 16777217"},
    {"scale", 0, NULL}, {"scale", 1e-30, NULL}, {"scale", 1e38, NULL},
    {"scale", -0.1, "scale is -0.1: it must be positive"},
    {"scale", NAN, "scale is"}, {"scale", INFINITY, "scale is inf"}, {"scale", 3e38, "scale is 3e+38"},
    {"policy", -1, "selection.policy is -1"}, {"policy", 4, "selection.policy is 4: it must be a tamis_policy"},
    {"scope", -1, "selection.scope is -1"}, {"scope", 3, "selection.scope is 3: it must be a tamis_scope"},
    {"scope", TAMIS_SCOPE_LAYER, NULL},
    {"window", 0, "selection.window is 0: it must be 1 to 1024"}, {"window", 1, NULL}, {"window", 1024, NULL},
    {"window", 1025, "selection.window is 1025"}, {"window", -1, "selection.window is -1"},
    {"pool", 0, "selection.pool is 0: it must be 1 to 63"}, {"pool", 1, NULL}, {"pool", 63, NULL},
    {"pool", 65, "selection.pool is 65"}, {"pool", 8, "selection.pool is 8: it must be odd"},
    {"pool", -7, "selection.pool is -7"},
    {"min_tokens", -1, "selection.min_tokens is -1"}, {"min_tokens", 0, NULL}, {"min_tokens", 9e18, NULL},
    {"coverage", 0, NULL}, {"coverage", 0.999999, NULL},
    {"coverage", 1, "selection.coverage is 1: it must be at least 0 and below 1"},
    {"coverage", -1e-9, "selection.coverage is -1e-09"}, {"coverage", NAN, "selection.coverage is"},
    {"ratio", 0, "selection.ratio is 0: it must be above 0 and at most 1"}, {"ratio", 1e-9, NULL}, {"ratio", 1, NULL},
    {"ratio", 1.0000001, "selection.ratio is 1"}, {"ratio", NAN, "selection.ratio is"},
    {"ratio", -0.5, "selection.ratio is -0.5"},
    {"count", 0, NULL}, {"count", 9e18, NULL}, {"count", -1, "selection.count is -1"},
    {"mask", TAMIS_CAUSAL, NULL}, {"mask", TAMIS_FULL, NULL},
    {"mask", -1, "mask is -1: it must be TAMIS_CAUSAL or TAMIS_FULL"}, {"mask", 2, "mask is 2"},
};

START_TEST(range_of_a_member)
{
    tamis_problem problem = base_problem();
    set_member(&problem, ranges[_i].member, ranges[_i].value);
    tamisi_error_clear();
    const tamis_status status = tamisi_problem_check(&problem);
    if (!ranges[_i].message) {
        ck_assert_msg(status == TAMIS_OK, "%s: %s", ranges[_i].member, tamis_last_error());
        ck_assert_str_eq(tamis_last_error(), "");
        return;
    }
    ck_assert_int_eq(status, TAMIS_EINVAL);
    ck_assert_msg(strncmp(tamis_last_error(), ranges[_i].message, strlen(ranges[_i].message)) == 0, "%s",
                  tamis_last_error());
}
END_TEST

/* Members of other policies may be anything. */
START_TEST(other_policies_members)
{
    tamis_problem problem = base_problem();
    problem.selection.policy = (tamis_policy)_i;
    problem.selection.coverage = _i == TAMIS_COVERAGE ? 0.1 : NAN;
    problem.selection.ratio = _i == TAMIS_RATIO ? 0.1 : -1;
    problem.selection.count = _i == TAMIS_COUNT ? 10 : -1;
    ck_assert_msg(tamisi_problem_check(&problem) == TAMIS_OK, "%s", tamis_last_error());
}
END_TEST

/* Without the causal mask a dropped token would have been seen by others: nothing may be dropped, not even nothing. */
START_TEST(mask_of_sparse_policies)
{
    tamis_problem problem = base_problem();
    problem.mask = TAMIS_FULL;
    problem.selection.policy = (tamis_policy)_i;
    problem.selection.coverage = 0; /* which is dense too */
    problem.selection.ratio = 1;
    ck_assert_int_eq(tamisi_problem_check(&problem), TAMIS_EINVAL);
    ck_assert_msg(strstr(tamis_last_error(), "mask is TAMIS_FULL") && strstr(tamis_last_error(), "policy is not TAMIS_DENSE"),
                  "%s", tamis_last_error());
}
END_TEST

/* ---- facts */

#define COVERAGE(tau) TAMIS_COVERAGE, tau, 1.0, 0
#define RATIO(r) TAMIS_RATIO, 0.0, r, 0
#define COUNT(c) TAMIS_COUNT, 0.0, 1.0, c
#define DENSE TAMIS_DENSE, 0.0, 1.0, 0

static const struct {
    long long seq_len, window, min_tokens;
    tamis_policy policy;
    double coverage, ratio;
    long long count;
    long long candidates, fixed_keep, capacity;
    bool dense;
} budgets[] = {
    /* seq_len, W, M */ /*                       N, keep, C, dense */
    {4096, 128, 1024, COVERAGE(0.005), 3968, -1, 4096, false},
    {4096, 128, 1024, COVERAGE(0.0), 3968, 3968, 4096, true},
    {4096, 128, 1024, DENSE, 3968, 3968, 4096, true},
    {1152, 128, 1024, COVERAGE(0.5), 1024, 1024, 1152, true}, /* L = M + W */
    {1153, 128, 1024, COVERAGE(0.5), 1025, -1, 1153, false},
    {1152, 128, 1024, RATIO(0.1), 1024, 1024, 1152, true},
    {1153, 128, 1024, RATIO(0.1), 1025, 1024, 1152, false},
    {4096, 128, 0, RATIO(0.25), 3968, 992, 1120, false},
    {4097, 128, 0, RATIO(0.25), 3969, 993, 1121, false}, /* 992.25 is rounded up */
    {4096, 128, 0, RATIO(1.0), 3968, 3968, 4096, true},
    {4096, 128, 0, RATIO(0.9999), 3968, 3968, 4096, true}, /* ceil(3967.6) */
    {4096, 128, 0, RATIO(0.9997), 3968, 3967, 4095, false},
    {4096, 128, 0, RATIO(1e-12), 3968, 1, 129, false},
    {4096, 128, 1024, COUNT(100), 3968, 1024, 1152, false},
    {4096, 128, 1024, COUNT(2000), 3968, 2000, 2128, false},
    {4096, 128, 1024, COUNT(3967), 3968, 3967, 4095, false},
    {4096, 128, 1024, COUNT(3968), 3968, 3968, 4096, true},
    {4096, 128, 1024, COUNT(INT64_MAX), 3968, 3968, 4096, true},
    {4096, 128, 0, COUNT(0), 3968, 0, 128, false},
    {4096, 128, INT64_MAX, COUNT(5), 3968, 3968, 4096, true},
    {128, 128, 0, COVERAGE(0.5), 0, 0, 128, true}, /* L = W */
    {127, 128, 0, COVERAGE(0.5), 0, 0, 127, true},
    {1, 1024, 1024, COUNT(3), 0, 0, 1, true},
    {129, 128, 0, COUNT(0), 1, 0, 128, false},
    {129, 128, 1, COUNT(0), 1, 1, 129, true},
    {16777216, 1024, 1024, RATIO(0.5), 16776192, 8388096, 8389120, false},
};

START_TEST(budget_by_hand)
{
    tamis_problem problem = base_problem();
    struct tamisi_facts facts;
    problem.seq_len = budgets[_i].seq_len;
    problem.selection =
        (tamis_selection){budgets[_i].policy,     TAMIS_SCOPE_HEAD,     (int32_t)budgets[_i].window, 7,
                          budgets[_i].min_tokens, budgets[_i].coverage, budgets[_i].ratio,           budgets[_i].count};
    ck_assert_int_eq(tamisi_problem_check(&problem), TAMIS_OK);
    tamisi_facts_make(&facts, &problem);
    ck_assert_int_eq(facts.candidates, budgets[_i].candidates);
    ck_assert_int_eq(facts.fixed_keep, budgets[_i].fixed_keep);
    ck_assert_int_eq(facts.capacity, budgets[_i].capacity);
    ck_assert_int_eq(facts.dense, budgets[_i].dense);
}
END_TEST

START_TEST(heads_by_scope)
{
    static const int index_heads[] = {32, 8, 1}, compact_heads[] = {32, 8, 8};
    tamis_problem problem = base_problem();
    struct tamisi_facts facts;
    problem.selection.scope = (tamis_scope)_i;
    tamisi_facts_make(&facts, &problem);
    ck_assert_int_eq(facts.group, 4);
    ck_assert_int_eq(facts.index_heads, index_heads[_i]);
    ck_assert_int_eq(facts.compact_heads, compact_heads[_i]);
    ck_assert_double_eq_tol(facts.scale, 0.08838834764831845, 1e-16);
    problem.scale = 0.25;
    tamisi_facts_make(&facts, &problem);
    ck_assert_double_eq(facts.scale, 0.25);
}
END_TEST

static const struct {
    long long seq_len, chunk_keys;
    int chunks;
} chunks[] = {{1, 256, 1},          {256, 256, 1},        {257, 256, 2},          {4096, 256, 16},     {16384, 256, 64},
              {16385, 512, 33},     {131072, 2048, 64},   {131073, 2304, 57},     {1048576, 16384, 64},
              {16777215, 262144, 64}, {16777216, 262144, 64}};

START_TEST(score_chunks_by_hand)
{
    tamis_problem problem = base_problem();
    struct tamisi_facts facts;
    problem.seq_len = chunks[_i].seq_len;
    tamisi_facts_make(&facts, &problem);
    ck_assert_int_eq(facts.score_chunk_keys, chunks[_i].chunk_keys);
    ck_assert_int_eq(facts.score_chunks, chunks[_i].chunks);

    /* Whatever else changes, the cut does not. */
    problem.batch = 7;
    problem.q_heads = problem.kv_heads = 3;
    problem.head_dim = 256;
    problem.selection = (tamis_selection){TAMIS_COUNT, TAMIS_SCOPE_LAYER, 5, 1, 0, 0, 1, 3};
    tamisi_facts_make(&facts, &problem);
    ck_assert_int_eq(facts.score_chunk_keys, chunks[_i].chunk_keys);
    ck_assert_int_eq(facts.score_chunks, chunks[_i].chunks);
}
END_TEST

/* At many lengths: whole tiles, every key in one chunk, no chunk empty, never more than 64. */
START_TEST(score_chunks_cover_the_keys)
{
    tamis_problem problem = base_problem();
    for (long long seq_len = 1; seq_len <= 1 << 24; seq_len += 1 + seq_len / 97) {
        struct tamisi_facts facts;
        problem.seq_len = seq_len;
        tamisi_facts_make(&facts, &problem);
        const long long keys = facts.score_chunk_keys;
        if (keys % TAMISI_CHUNK_ALIGN != 0 || facts.score_chunks < 1 || facts.score_chunks > 64 ||
            keys * facts.score_chunks < seq_len || keys * (facts.score_chunks - 1) >= seq_len)
            ck_abort_msg("L %lld: %d chunks of %lld keys", seq_len, facts.score_chunks, keys);
    }
}
END_TEST

/* ---- workspaces */

static struct tamisi_workspace workspace_of(const tamis_problem *problem)
{
    struct tamisi_facts facts;
    struct tamisi_workspace workspace;
    ck_assert_msg(tamisi_problem_check(problem) == TAMIS_OK, "%s", tamis_last_error());
    tamisi_facts_make(&facts, problem);
    ck_assert_msg(tamisi_workspace_make(&workspace, problem, &facts) == TAMIS_OK, "%s", tamis_last_error());
    return workspace;
}

static tamis_problem small_problem(void)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.q_heads = 2;
    problem.kv_heads = 1;
    problem.head_dim = 64;
    problem.seq_len = 300;
    problem.selection = (tamis_selection){TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, 32, 7, 0, 0.1, 1.0, 0};
    return problem;
}

START_TEST(workspace_by_hand)
{
    const tamis_problem problem = small_problem();
    const struct tamisi_workspace w = workspace_of(&problem); /* N = 268, two chunks */
    ck_assert_uint_eq(w.score, 0);
    ck_assert_uint_eq(w.rank, 2304);       /* 2 * 268 * 4 = 2144 */
    ck_assert_uint_eq(w.mean, 4608);       /* the same */
    ck_assert_uint_eq(w.partial, 5888);    /* 268 * 4 = 1072 */
    ck_assert_uint_eq(w.lse2, 6912);       /* 2 * 32 * 2 * 8 = 1024 */
    ck_assert_uint_eq(w.kept, 7424);       /* 2 * 64 * 4 = 512 */
    ck_assert_uint_eq(w.indices, 7680);    /* 4 */
    ck_assert_uint_eq(w.compact_k, 10240); /* 2 * 300 * 4 = 2400 */
    ck_assert_uint_eq(w.compact_v, 87040); /* 2 * 300 * 64 * 2 = 76800 */
    ck_assert_uint_eq(w.counter, 163840);
    ck_assert_uint_eq(w.bytes, 164096);    /* 4 */
}
END_TEST

START_TEST(workspace_of_a_count_and_a_batch)
{
    tamis_problem problem = small_problem();
    problem.batch = 3;
    problem.selection = (tamis_selection){TAMIS_COUNT, TAMIS_SCOPE_LAYER, 32, 7, 0, 0, 1.0, 100};
    const struct tamisi_workspace w = workspace_of(&problem); /* C = 132, one list, one compact head */
    ck_assert_uint_eq(w.rank, 6656);        /* 3 * 2 * 268 * 4 = 6432 */
    ck_assert_uint_eq(w.mean, 9984);        /* 3 * 268 * 4 = 3216, in 3328 */
    ck_assert_uint_eq(w.partial, 13312);
    ck_assert_uint_eq(w.lse2, 16384);       /* 3 * 2 * 32 * 2 * 8 = 3072 */
    ck_assert_uint_eq(w.kept, 17920);       /* 3 * 2 * 64 * 4 = 1536 */
    ck_assert_uint_eq(w.indices, 18176);
    ck_assert_uint_eq(w.compact_k, 19968);  /* 3 * 132 * 4 = 1584, in 1792 */
    ck_assert_uint_eq(w.compact_v, 70656);  /* 3 * 132 * 64 * 2 = 50688 */
    ck_assert_uint_eq(w.counter, 121344);
    ck_assert_uint_eq(w.bytes, 121600);
}
END_TEST

/* A dense plan has no compact rows; without candidates it has no scores either. */
START_TEST(workspace_of_dense_plans)
{
    tamis_problem problem = small_problem();
    problem.selection.policy = TAMIS_DENSE;
    struct tamisi_workspace w = workspace_of(&problem);
    ck_assert_uint_eq(w.rank, 0);
    ck_assert_uint_eq(w.mean, 2304);
    ck_assert_uint_eq(w.partial, 3584);
    ck_assert_uint_eq(w.lse2, 4608);
    ck_assert_uint_eq(w.kept, 5120);
    ck_assert_uint_eq(w.indices, 5376);
    ck_assert_uint_eq(w.counter, 7936);
    ck_assert_uint_eq(w.bytes, 8192);

    problem.seq_len = 21;
    problem.batch = 2;
    w = workspace_of(&problem);
    ck_assert_uint_eq(w.kept, 0);
    ck_assert_uint_eq(w.indices, 256);
    ck_assert_uint_eq(w.counter, 768); /* 2 * 2 * 21 * 4 = 336 */
    ck_assert_uint_eq(w.bytes, 1024);
}
END_TEST

/* Past 2^32 bytes and elements: the score of 64 sequences of 2^20 tokens alone takes 64 * 32 * (2^20 - 128) * 4. */
START_TEST(workspace_past_32_bits)
{
    tamis_problem problem = base_problem();
    problem.batch = 64;
    problem.seq_len = 1 << 20;
    const struct tamisi_workspace w = workspace_of(&problem);
    ck_assert_uint_eq(w.rank, (size_t)64 * 32 * 1048448 * 4);
    ck_assert_uint_eq(w.compact_v - w.compact_k, (size_t)64 * 32 * 1048576 * 128 * 2);
    ck_assert_uint_eq(w.counter, w.compact_v + (w.compact_v - w.compact_k));
}
END_TEST

/* The largest problem that passes the check fits; sizes that do not fit fail, at each step of the product. */
START_TEST(workspace_overflow)
{
    tamis_problem problem = base_problem();
    struct tamisi_facts facts;
    struct tamisi_workspace w, before;
    problem.batch = 65535;
    problem.q_heads = 1024;
    problem.kv_heads = 1;
    problem.head_dim = 256;
    problem.seq_len = 1 << 24;
    problem.selection.window = 1024;
    ck_assert_uint_gt(workspace_of(&problem).bytes, (size_t)1 << 59);

    static const long long capacities[] = {1ll << 29, 1ll << 40, LLONG_MAX / 256};
    tamisi_facts_make(&facts, &problem);
    facts.capacity = capacities[_i];
    memset(&w, 0x5a, sizeof w);
    before = w;
    ck_assert_int_eq(tamisi_workspace_make(&w, &problem, &facts), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(),
                     "batch 65535, q_heads 1024, seq_len 16777216: the workspace would pass 2^63 bytes");
    ck_assert_mem_eq(&w, &before, sizeof w);
}
END_TEST

/* Parts in order and aligned, for every policy and scope. */
START_TEST(workspace_parts_are_apart)
{
    for (int policy = TAMIS_DENSE; policy <= TAMIS_COUNT; policy++)
        for (int scope = TAMIS_SCOPE_HEAD; scope <= TAMIS_SCOPE_LAYER; scope++) {
            tamis_problem problem = base_problem();
            problem.selection =
                (tamis_selection){(tamis_policy)policy, (tamis_scope)scope, 97, 7, 11, 0.1, 0.3, 777};
            const struct tamisi_workspace w = workspace_of(&problem);
            const size_t parts[] = {w.score, w.rank,    w.mean,      w.partial,   w.lse2,
                                    w.kept,  w.indices, w.compact_k, w.compact_v, w.counter, w.bytes};
            for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
                ck_assert_uint_eq(parts[i] % 256, 0);
                if (i > 0) ck_assert_uint_le(parts[i - 1], parts[i]);
            }
        }
}
END_TEST

Suite *plan_suite(void)
{
    Suite *suite = suite_create("plan");
    TCase *problem = tcase_create("problem"), *facts = tcase_create("facts"), *workspace = tcase_create("workspace");
    tcase_add_loop_test(problem, range_of_a_member, 0, (int)(sizeof ranges / sizeof *ranges));
    tcase_add_loop_test(problem, other_policies_members, TAMIS_DENSE, TAMIS_COUNT + 1);
    tcase_add_loop_test(problem, mask_of_sparse_policies, TAMIS_COVERAGE, TAMIS_COUNT + 1);
    tcase_add_loop_test(facts, budget_by_hand, 0, (int)(sizeof budgets / sizeof *budgets));
    tcase_add_loop_test(facts, heads_by_scope, 0, 3);
    tcase_add_loop_test(facts, score_chunks_by_hand, 0, (int)(sizeof chunks / sizeof *chunks));
    tcase_add_test(facts, score_chunks_cover_the_keys);
    tcase_add_test(workspace, workspace_by_hand);
    tcase_add_test(workspace, workspace_of_a_count_and_a_batch);
    tcase_add_test(workspace, workspace_of_dense_plans);
    tcase_add_test(workspace, workspace_past_32_bits);
    tcase_add_loop_test(workspace, workspace_overflow, 0, 3);
    tcase_add_test(workspace, workspace_parts_are_apart);
    suite_add_tcase(suite, problem);
    suite_add_tcase(suite, facts);
    suite_add_tcase(suite, workspace);
    return suite;
}
