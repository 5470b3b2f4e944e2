/*
 * gpu_launch_case.c: see gpu_launch_case.h.
 */
#define _XOPEN_SOURCE 700

#include "gpu_launch_case.h"

struct launched launched;

/* The stage is the symbol behind "k_<variant>_". */
static void note_launch(void *payload, const struct fake_cuda_launch *launch)
{
    static const struct {
        const char *stage;
        size_t bytes;
    } sizes[] = {{"score_stats", sizeof(struct tamis_score_args)},   {"score_merge", sizeof(struct tamis_score_args)},
                 {"score_sum", sizeof(struct tamis_score_args)},     {"score_stats_tma", sizeof(struct tamis_score_tma_args)},
                 {"score_sum_tma", sizeof(struct tamis_score_tma_args)}, {"select_pool", sizeof(struct tamis_pool_args)},
                 {"select_budget", sizeof(struct tamis_budget_args)}, {"select_tokens", sizeof(struct tamis_tokens_args)},
                 {"compress", sizeof(struct tamis_compress_args)},   {"attend", sizeof(struct tamis_attend_args)},
                 {"decompress", sizeof(struct tamis_decompress_args)},
                 {"attend_tma", sizeof(struct tamis_attend_tma_args)}};
    const char *stage = strchr(launch->symbol + strlen("k_"), '_') + 1;
    (void)payload;
    child_expect(launched.count < LAUNCHES_MAX, "more than %d launches", LAUNCHES_MAX);
    struct launch *one = &launched.list[launched.count++];
    memset(one, 0, sizeof *one);
    snprintf(one->stage, sizeof one->stage, "%s", stage);
    memcpy(one->grid, launch->grid, sizeof one->grid);
    memcpy(one->cluster, launch->cluster, sizeof one->cluster);
    child_expect(launch->starts_early, "%s: set up only when the kernel before it is through", stage);
    child_expect(launch->block[1] == 1 && launch->block[2] == 1, "%s: block %u %u %u", stage, launch->block[0],
                 launch->block[1], launch->block[2]);
    one->threads = launch->block[0];
    one->shared_bytes = launch->shared_bytes;
    one->stream = launch->stream;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].stage, stage) == 0) memcpy(&one->args, launch->params[0], sizes[i].bytes);
}

/* ---- the problem's tensors */

tamis_tensor launch_tensor(int number, const tamis_problem *problem, int heads, long long rows)
{
    const long long head_stride = rows * problem->head_dim;
    return (tamis_tensor){AT(number), heads * head_stride, head_stride, problem->head_dim};
}

tamis_run_args launch_args(const tamis_problem *problem)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = launch_tensor(AT_Q, problem, problem->q_heads, problem->seq_len);
    args.k = launch_tensor(AT_K, problem, problem->kv_heads, problem->seq_len);
    args.v = launch_tensor(AT_V, problem, problem->kv_heads, problem->seq_len);
    args.output = launch_tensor(AT_OUTPUT, problem, problem->q_heads, problem->seq_len);
    return args;
}

/* ---- expectations */

static unsigned tiles(long long rows, int block) { return (unsigned)(rows / block + (rows % block != 0)); }

/* Blocks that stay, one an SM of the fake's 132 at most. */
static unsigned persistent(unsigned long long work) { return work < 132 ? (unsigned)work : 132; }

static unsigned compress_heads(const struct tamis_compress_args *args)
{
    return (unsigned)(args->tensors[0].heads + args->tensors[1].heads + args->tensors[2].heads);
}

bool launch_keeps_fixed(const tamis_plan *plan)
{
    return plan->problem.selection.policy != TAMIS_COVERAGE || plan->facts.dense;
}

/* The grid that a stage must have; block sizes as in gpu_plan_entries. */
static void wanted_grid(unsigned grid[3], const tamis_plan *plan, const struct launch *one)
{
    const tamis_problem *problem = &plan->problem;
    const long long window = problem->selection.window, candidates = problem->seq_len - window;
    const long long group = problem->q_heads / problem->kv_heads, capacity = tamis_plan_capacity(plan);
    const unsigned batch = (unsigned)problem->batch, q_heads = (unsigned)problem->q_heads;
    const unsigned kv_heads = (unsigned)problem->kv_heads;
    const long long chunks = tiles(problem->seq_len, (int)plan->facts.score_chunk_keys);
    const unsigned long long heads = (unsigned long long)batch * kv_heads;
    const unsigned run = (unsigned)tamis_plan_compact_heads(plan) / kv_heads; /* they share K and V */
    const struct {
        const char *stage;
        unsigned grid[3];
    } wanted[] = {{"score_stats", {(unsigned)chunks, tiles(group * window, 64), batch * kv_heads}},
                  {"score_stats_tma", {persistent(heads * tiles(group * window, 192) * (unsigned long long)chunks), 1, 1}},
                  {"score_merge", {tiles(plan->facts.lse2_rows, 256), q_heads, batch}},
                  {"score_sum", {tiles(candidates, 32), kv_heads, batch}},
                  {"score_sum_tma", {persistent(heads * tiles(candidates, 208)), 1, 1}},
                  {"select_pool", {tiles(candidates, 224), batch, 1}},
                  {"select_budget", {candidates > 2900 && !launch_keeps_fixed(plan) ? 6 : 1, batch, 1}},
                  {"select_tokens", {candidates > 5000 ? 3 : 1, (unsigned)tamis_plan_index_heads(plan), batch}},
                  {"compress", {tiles(capacity, 20) * run, compress_heads(&one->args.compress) / run, batch}},
                  {"attend", {tiles(capacity, 48), q_heads, batch}},
                  {"attend_tma", {persistent((unsigned long long)tiles(capacity, 112) * q_heads * batch), 1, 1}},
                  {"decompress", {tiles(problem->seq_len, 28), q_heads, batch}}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (strcmp(wanted[i].stage, one->stage) == 0) memcpy(grid, wanted[i].grid, sizeof wanted[i].grid);
}

static void expect_block(const struct launch *one, const char *what)
{
    for (size_t i = 0; i < GPU_PLAN_ENTRIES; i++) {
        const struct gpu_plan_entry *entry = &gpu_plan_entries[i];
        if (strcmp(entry->stage, one->stage) != 0) continue;
        child_expect(one->threads == (unsigned)entry->threads && one->shared_bytes == (unsigned)entry->shared_bytes,
                     "%s, %s: %u threads, %u bytes of shared memory", what, one->stage, one->threads, one->shared_bytes);
        return;
    }
    child_expect(false, "%s: %s is no stage", what, one->stage);
}

/* Blocks that share a list are a cluster, and no others. */
static void expect_cluster(const struct launch *one, const char *what)
{
    const bool shares = strcmp(one->stage, "select_budget") == 0 || strcmp(one->stage, "select_tokens") == 0;
    const unsigned wanted[3] = {shares ? one->grid[0] : 1, 1, 1};
    child_expect(memcmp(one->cluster, wanted, sizeof wanted) == 0, "%s, %s: clusters of %u %u %u", what, one->stage,
                 one->cluster[0], one->cluster[1], one->cluster[2]);
}

/* How much of a stage's name is left without "_tma". */
static int plain_length(const char *stage)
{
    const char *suffix = strstr(stage, "_tma");
    return (int)(suffix ? (size_t)(suffix - stage) : strlen(stage));
}

void launch_expect(const struct gpu_bench *bench, const char *stages, const char *what)
{
    char all[512] = "";
    struct fake_cuda_counts counts;
    for (int i = 0; i < launched.count; i++) {
        const struct launch *one = &launched.list[i];
        unsigned grid[3] = {0, 0, 0};
        wanted_grid(grid, bench->plan, one);
        child_expect(memcmp(grid, one->grid, sizeof grid) == 0, "%s, %s: grid %u %u %u instead of %u %u %u", what,
                     one->stage, one->grid[0], one->grid[1], one->grid[2], grid[0], grid[1], grid[2]);
        expect_block(one, what);
        expect_cluster(one, what);
        child_expect(gpu_plan_has(launched.tma, one->stage), "%s: %s", what, one->stage);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.*s", i ? " " : "", plain_length(one->stage), one->stage);
    }
    child_expect(strcmp(all, stages) == 0, "%s: launched \"%s\" instead of \"%s\"", what, all, stages);
    bench->counts(&counts);
    child_expect(counts.misuses == 0, "%s: %s", what, counts.misuse);
    child_expect(counts.blocking == launched.blocking, "%s: %ld calls that allocate, copy or wait", what,
                 counts.blocking - launched.blocking);
    launched.count = 0;
}

/* A fixed budget is written by select_pool, and one kernel for attention writes the dropped rows as well. */
#define SPARSE_STAGES(budget) \
    (launched.tma ? SCORE_STAGES budget " select_tokens compress attend" \
                  : SCORE_STAGES budget " select_tokens compress attend decompress")
const char *launch_sparse_stages(const tamis_plan *plan)
{
    return launch_keeps_fixed(plan) ? SPARSE_STAGES("") : SPARSE_STAGES(" select_budget");
}

/* ---- problems */

const struct launch_shape launch_shapes[LAUNCH_SHAPES] = {
    {131072, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, false, TAMIS_CAUSAL},
    {1 << 24, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, false, TAMIS_CAUSAL},
    {1 << 24, 1, 64, 1, TAMIS_SCOPE_KV_GROUP, TAMIS_RATIO, 1024, false, TAMIS_CAUSAL},
    {(1 << 24) - 1, 3, 40, 8, TAMIS_SCOPE_LAYER, TAMIS_COUNT, 1, false, TAMIS_CAUSAL},
    {1153, 65535, 1, 1, TAMIS_SCOPE_HEAD, TAMIS_RATIO, 128, false, TAMIS_CAUSAL},
    {1153, 63, 1024, 1024, TAMIS_SCOPE_KV_GROUP, TAMIS_RATIO, 128, false, TAMIS_CAUSAL},
    {4096, 2, 32, 8, TAMIS_SCOPE_KV_GROUP, TAMIS_COUNT, 64, false, TAMIS_CAUSAL},
    {128 + 2900, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, false, TAMIS_CAUSAL}, /* the longest of one block */
    {128 + 5000, 3, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, false, TAMIS_CAUSAL},
    {128 + 5001, 1, 32, 8, TAMIS_SCOPE_LAYER, TAMIS_RATIO, 128, false, TAMIS_CAUSAL},
    {4096, 2, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_DENSE, 128, true, TAMIS_FULL},
    {1 << 24, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_DENSE, 128, true, TAMIS_CAUSAL},
    {1152, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, true, TAMIS_CAUSAL}, /* M + W */
    {100, 1, 32, 8, TAMIS_SCOPE_HEAD, TAMIS_COVERAGE, 128, true, TAMIS_CAUSAL},  /* shorter than the window */
    {1, 1, 1, 1, TAMIS_SCOPE_HEAD, TAMIS_DENSE, 1, true, TAMIS_CAUSAL},
};

tamis_problem launch_problem(const struct launch_shape *shape)
{
    tamis_problem problem = bench_problem(shape->seq_len);
    problem.mask = shape->mask;
    problem.batch = shape->batch;
    problem.q_heads = shape->q_heads;
    problem.kv_heads = shape->kv_heads;
    problem.selection.scope = shape->scope;
    problem.selection.policy = shape->policy;
    problem.selection.window = shape->window;
    problem.selection.ratio = 0.25;
    problem.selection.count = 2000;
    return problem;
}

void launch_open(struct gpu_bench *bench, const struct launch_shape *shape)
{
    const tamis_problem problem = launch_problem(shape);
    bench_environment(NULL);
    bench_open(bench);
    bench->watch(note_launch, NULL);
    bench_must(tamis_plan_create(&bench->plan, bench->context, bench->store, &problem), "plan");
    bench->assume(AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench->plan));
    struct fake_cuda_counts counts;
    bench->counts(&counts);
    launched.blocking = counts.blocking;
}
