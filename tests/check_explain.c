/*
 * check_explain.c: the figures of `tamis plan --explain`: workspace parts, kept counts and floors against sums done here, and
 * the launches against those that tamis_run puts on a fake GPU's stream, grid by grid.
 */
#define _XOPEN_SOURCE 700

#include "explain.h"
#include "gpu_plan_case.h"

#include <stdint.h>

Suite *explain_suite(void);

static tamis_problem make_problem(long long seq_len, tamis_policy policy, tamis_scope scope)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.batch = 3;
    problem.q_heads = 8;
    problem.kv_heads = 2;
    problem.head_dim = 128;
    problem.seq_len = seq_len;
    problem.selection = (tamis_selection){policy, scope, 100, 7, 50, 0.01, 0.4, 333};
    return problem;
}

/* ---- the workspace */

START_TEST(workspace_parts)
{
    const tamis_problem p = make_problem(3000, TAMIS_COUNT, (tamis_scope)_i);
    const long long lists = _i == 0 ? 8 : _i == 1 ? 2 : 1, compact = _i == 0 ? 8 : 2, n = 2900, c = 433;
    const long long wanted[EXPLAIN_PARTS] = {3 * 8 * n * 4, 3 * lists * n * 4, 3 * n * 4, 3 * 8 * 100 * 12 * 8, 3 * 8 * 128 * 4,
                                             3 * 4, 3 * lists * c * 4, 3 * compact * c * 256, 3 * compact * c * 256, 4};
    struct tamisi_facts facts;
    struct tamisi_workspace workspace;
    struct explain_part parts[EXPLAIN_PARTS];
    long long sum = 0;
    tamisi_facts_make(&facts, &p);
    ck_assert_int_eq(facts.score_chunks, 12);
    ck_assert_int_eq(tamisi_workspace_make(&workspace, &p, &facts), TAMIS_OK);
    explain_parts(parts, &workspace);
    for (int i = 0; i < EXPLAIN_PARTS; i++) {
        ck_assert_msg(parts[i].bytes == (wanted[i] + 255) / 256 * 256, "%s: %lld bytes, not %lld", parts[i].name,
                      parts[i].bytes, wanted[i]);
        sum += parts[i].bytes;
    }
    ck_assert_int_eq(sum, (long long)workspace.bytes);
}
END_TEST

/* ---- kept */

START_TEST(kept)
{
    static const struct {
        long long seq_len, tokens;
        double ratio;
        tamis_policy policy;
        bool assumed;
    } cases[] = {{3000, 433, 0.5, TAMIS_COUNT, false},      {3000, 1260, 0.5, TAMIS_RATIO, false},
                 {3000, 3000, 0.5, TAMIS_DENSE, false},     {150, 150, 0.5, TAMIS_COVERAGE, false}, /* dense: L <= M + W */
                 {40, 40, 0.5, TAMIS_COUNT, false},         {3000, 1550, 0.5, TAMIS_COVERAGE, true},
                 {3000, 825, 0.25, TAMIS_COVERAGE, true},   {3000, 150, 0.0, TAMIS_COVERAGE, true}, /* M */
                 {3000, 3000, 1.0, TAMIS_COVERAGE, true},   {3001, 1551, 0.5, TAMIS_COVERAGE, true}};
    ck_assert_int_eq(_i < (int)(sizeof cases / sizeof *cases), true);
    const tamis_problem p = make_problem(cases[_i].seq_len, cases[_i].policy, TAMIS_SCOPE_HEAD);
    struct tamisi_facts facts;
    tamisi_facts_make(&facts, &p);
    const struct explain_kept found = explain_kept(&p, &facts, cases[_i].ratio);
    ck_assert_int_eq(found.tokens, cases[_i].tokens);
    ck_assert_int_eq(found.assumed, cases[_i].assumed);
}
END_TEST

/* ---- floors */

static const struct explain_floor *find_floor(const struct explain_floor *floors, int count, const char *stage)
{
    for (int i = 0; i < count; i++)
        if (strcmp(floors[i].stage, stage) == 0) return &floors[i];
    ck_abort_msg("no floor of %s", stage);
    return NULL;
}

static void expect_floor(const struct explain_floor *floors, int count, const char *stage, double read, double written,
                         double flops)
{
    const struct explain_floor *found = find_floor(floors, count, stage);
    ck_assert_msg(found->read_bytes == read && found->written_bytes == written && found->flops == flops,
                  "%s: reads %.0f, writes %.0f, %.0f FLOP; not %.0f, %.0f, %.0f", stage, found->read_bytes,
                  found->written_bytes, found->flops, read, written, flops);
}

/* The model and length of the project's figures: 32 and 8 heads of 128, 131072 tokens, half of them kept. */
static tamis_problem known_problem(tamis_policy policy, tamis_scope scope)
{
    tamis_problem p = TAMIS_PROBLEM_INIT;
    p.q_heads = 32;
    p.kv_heads = 8;
    p.head_dim = 128;
    p.seq_len = 131072;
    p.selection.policy = policy;
    p.selection.scope = scope;
    p.selection.ratio = 0.5;
    p.selection.coverage = 0.005;
    return p;
}

START_TEST(floors_of_a_sparse_plan)
{
    const tamis_problem p = known_problem(_i == 2 ? TAMIS_COVERAGE : TAMIS_RATIO,
                                          _i == 1 ? TAMIS_SCOPE_KV_GROUP : TAMIS_SCOPE_HEAD);
    const double lists = _i == 1 ? 8 : 32, compact = lists, n = 65600, before = 130944;
    struct explain_floor floors[EXPLAIN_FLOORS];
    struct tamisi_facts facts;
    tamisi_facts_make(&facts, &p);
    const int count = explain_floors(floors, &p, &facts, 65600);
    ck_assert_int_eq(count, _i == 2 ? 8 : 7);
    expect_floor(floors, count, "score, pass 1", 8 * 131072.0 * 256 + 32 * 128 * 256, 32 * 128 * 4, 137438953472.0);
    expect_floor(floors, count, "score, pass 2", 8 * before * 256 + 32 * 128 * 256 + 32 * 128 * 4, 32 * before * 4,
                 2.0 * 32 * 128 * 128 * before);
    expect_floor(floors, count, "pool", 32 * before * 4, (lists + 1) * before * 4 + (_i == 2 ? 0 : 4), 0);
    if (_i == 2) expect_floor(floors, count, "budget", before * 4, 4, 0);
    expect_floor(floors, count, "select", lists * before * 4, lists * n * 4, 0);
    expect_floor(floors, count, "compress", 2 * 8 * n * 256 + lists * n * 4, 2 * compact * n * 256, 0);
    expect_floor(floors, count, "attend", (32 + 2 * compact) * n * 256, 32 * n * 256, 2.0 * 32 * 128 * n * (n + 1));
    expect_floor(floors, count, "zero rows", 0, 32 * (131072 - n) * 256, 0);
}
END_TEST

START_TEST(floors_of_a_dense_plan)
{
    tamis_problem p = known_problem(TAMIS_DENSE, TAMIS_SCOPE_HEAD);
    const double length = 131072;
    struct explain_floor floors[EXPLAIN_FLOORS];
    struct tamisi_facts facts;
    p.batch = 2;
    if (_i == 1) p.mask = TAMIS_FULL;
    tamisi_facts_make(&facts, &p);
    const int count = explain_floors(floors, &p, &facts, 131072);
    ck_assert_int_eq(count, 1);
    expect_floor(floors, count, "attend", 2 * 48 * length * 256, 2 * 32 * length * 256,
                 2 * 32 * 128 * (_i == 1 ? 4 * length * length : 2 * length * (length + 1)));
    ck_assert_double_eq_tol(explain_least_ms(floors, 4.3e12, 790e12), floors[0].flops / 790e9, 1e-9);
    ck_assert_double_eq_tol(explain_least_ms(floors, 1e9, 1e18), (floors[0].read_bytes + floors[0].written_bytes) / 1e6, 1e-6);
}
END_TEST

/* ---- launches */

/* What a store of gpu_plan_case.h holds for plans without a block pattern or an output map. */
static void add_kernels(struct explain_kernels *kernels, bool tma, const char *without)
{
    for (size_t i = 0; i < GPU_PLAN_ENTRIES; i++) {
        const struct gpu_plan_entry *from = &gpu_plan_entries[i];
        struct tamisi_variant variant = {.entry_count = 1};
        struct tamisi_entry *entry = &variant.entries[0];
        if (!gpu_plan_has(tma, from->stage) || strcmp(from->stage, without) == 0) continue;
        if (strstr(from->family, "blocks") || strstr(from->family, "pattern") || strstr(from->family, "map")) continue;
        snprintf(entry->stage, sizeof entry->stage, "%s", from->stage);
        snprintf(entry->symbol, sizeof entry->symbol, "k_%s", from->stage);
        entry->threads = from->threads;
        entry->shared_bytes = from->shared_bytes;
        entry->block_m = from->block_m;
        entry->block_n = from->block_n;
        const struct tamisi_resource resource = {.symbol = "k_compress", .registers = 77};
        ck_assert_int_eq(explain_add(kernels, &variant, &resource, 1), TAMIS_OK);
    }
}

static struct {
    struct explain_launch list[EXPLAIN_LAUNCHES];
    int count, seen;
    bool tma;
} wanted;

static void compare_launch(void *payload, const struct fake_cuda_launch *launch)
{
    (void)payload;
    child_expect(wanted.seen < wanted.count, "%s: %d launches were explained", launch->symbol, wanted.count);
    const struct explain_launch *one = &wanted.list[wanted.seen++];
    const char *stage = strchr(launch->symbol + strlen("k_"), '_') + 1;
    const struct tamisi_entry *entry = &one->kernel->entry;
    child_expect(strcmp(stage, entry->stage) == 0, "launch %d is of %s, explained was %s", wanted.seen, stage, entry->stage);
    for (int i = 0; i < 3; i++)
        child_expect(launch->grid[i] == one->grid[i], "%s: grid[%d] is %u, explained was %lld", stage, i, launch->grid[i],
                     one->grid[i]);
    child_expect(launch->block[0] == (unsigned)entry->threads && launch->shared_bytes == (unsigned)entry->shared_bytes,
                 "%s: %u threads, %u bytes of shared memory", stage, launch->block[0], launch->shared_bytes);
}

#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))

static tamis_tensor tensor_at(int number, const tamis_problem *problem, int heads)
{
    const long long head_stride = problem->seq_len * problem->head_dim;
    return (tamis_tensor){AT(number), heads * head_stride, head_stride, problem->head_dim};
}

static void expect_launches(const void *argument)
{
    const tamis_problem *problem = argument;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    struct gpu_bench bench;
    bench_environment(NULL);
    bench_open(&bench);
    bench.assume(AT(1), SIZE_MAX / 2);
    bench.watch(compare_launch, NULL);
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, problem), "plan");
    args.q = tensor_at(1, problem, problem->q_heads);
    args.k = tensor_at(2, problem, problem->kv_heads);
    args.v = tensor_at(3, problem, problem->kv_heads);
    args.output = tensor_at(4, problem, problem->q_heads);
    bench_must(tamis_run(bench.plan, &args, AT(5), tamis_plan_workspace_bytes(bench.plan), NULL), "run");
    child_expect(wanted.seen == wanted.count, "%d launches, explained were %d", wanted.seen, wanted.count);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

static const struct {
    long long seq_len;
    tamis_policy policy;
    tamis_scope scope;
    int batch, window, q_heads, kv_heads;
} launched[] = {{3000, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, 3, 100, 8, 2},
                {131072, TAMIS_RATIO, TAMIS_SCOPE_KV_GROUP, 1, 128, 32, 8},
                {8191, TAMIS_COUNT, TAMIS_SCOPE_LAYER, 2, 1024, 12, 12},
                {1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, 1, 1, 4, 1},
                {131072, TAMIS_DENSE, TAMIS_SCOPE_HEAD, 2, 128, 32, 8},
                {140, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, 1, 100, 2, 1}, /* dense: L <= M + W */
                {1 << 24, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, 1, 7, 2, 2}};

START_TEST(launches)
{
    struct explain_kernels kernels = {.sm_count = 132}; /* the fake's */
    tamis_problem p = make_problem(launched[_i / 2].seq_len, launched[_i / 2].policy, launched[_i / 2].scope);
    struct tamisi_facts facts;
    wanted.tma = _i % 2 == 1;
    p.batch = launched[_i / 2].batch;
    p.selection.window = launched[_i / 2].window;
    p.q_heads = launched[_i / 2].q_heads;
    p.kv_heads = launched[_i / 2].kv_heads;
    tamisi_facts_make(&facts, &p);
    add_kernels(&kernels, wanted.tma, "");
    ck_assert_msg(explain_launches(wanted.list, &wanted.count, &kernels, &p, &facts) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(wanted.count, facts.dense ? 1 : 7 + (p.selection.policy == TAMIS_COVERAGE) + !wanted.tma);
    for (int i = 0; i < wanted.count; i++)
        ck_assert_int_eq(wanted.list[i].kernel->compiled, strcmp(wanted.list[i].kernel->entry.stage, "compress") == 0);
    gpu_plan_make_store(&(struct store_plan){.tma = wanted.tma});
    child_run(expect_launches, &p);
}
END_TEST

START_TEST(without_a_kernel)
{
    struct explain_kernels kernels = {.sm_count = 0};
    struct explain_launch list[EXPLAIN_LAUNCHES];
    const tamis_problem p = make_problem(3000, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD);
    struct tamisi_facts facts;
    int count = 0;
    tamisi_facts_make(&facts, &p);
    add_kernels(&kernels, true, gpu_plan_entries[_i].stage);
    const char *stage = gpu_plan_entries[_i].stage, *tma = strstr(stage, "_tma");
    /* A _tma stands in; those of block patterns and output maps are not for plans without one. */
    const bool of_others = strstr(stage, "blocks") || strstr(stage, "pattern") || strstr(stage, "map");
    const bool spare = !gpu_plan_has(true, stage) || strcmp(stage, "decompress") == 0 || of_others;
    ck_assert_int_eq(explain_launches(list, &count, &kernels, &p, &facts), spare ? TAMIS_OK : TAMIS_ENOTFOUND);
    if (spare) {
        const struct explain_launch *attend = &list[count - 1];
        ck_assert_str_eq(attend->kernel->entry.stage, "attend_tma");
        ck_assert(attend->up_to); /* SMs are unknown */
        ck_assert_int_eq(attend->grid[0], (3000 + 111) / 112 * 8 * 3);
    } else { /* without either of two the plain one is missed */
        char missed[32];
        snprintf(missed, sizeof missed, "%.*s", (int)(tma ? tma - stage : (int)strlen(stage)), stage);
        ck_assert_ptr_ne(strstr(tamis_last_error(), missed), NULL);
    }
}
END_TEST

START_TEST(too_many_kernels)
{
    struct explain_kernels kernels = {.sm_count = 0};
    const struct tamisi_variant variant = {.entry_count = TAMISI_MAX_ENTRIES};
    for (int i = 0; i < EXPLAIN_KERNELS / TAMISI_MAX_ENTRIES; i++)
        ck_assert_int_eq(explain_add(&kernels, &variant, NULL, 0), TAMIS_OK);
    ck_assert_int_eq(explain_add(&kernels, &variant, NULL, 0), TAMIS_EINVAL);
    ck_assert_int_eq(kernels.count, EXPLAIN_KERNELS);
}
END_TEST

Suite *explain_suite(void)
{
    Suite *suite = suite_create("explain");
    TCase *figures = tcase_create("figures"), *runs = tcase_create("launches");
    tcase_add_loop_test(figures, workspace_parts, 0, 3);
    tcase_add_loop_test(figures, kept, 0, 10);
    tcase_add_loop_test(figures, floors_of_a_sparse_plan, 0, 3);
    tcase_add_loop_test(figures, floors_of_a_dense_plan, 0, 2);
    tcase_add_loop_test(figures, without_a_kernel, 0, GPU_PLAN_ENTRIES);
    tcase_add_test(figures, too_many_kernels);
    tcase_add_checked_fixture(runs, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(runs, launches, 0, 2 * (int)(sizeof launched / sizeof *launched));
    suite_add_tcase(suite, figures);
    suite_add_tcase(suite, runs);
    return suite;
}
