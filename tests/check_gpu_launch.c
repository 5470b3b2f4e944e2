/*
 * check_gpu_launch.c: what tamis_run and the five steps put on the stream: which kernels in which order, with what grid,
 * block, shared memory and arguments, for dense and sparse problems up to 2^24 tokens. Part of the gpu_plan suite. What
 * attention is told of its tensors through maps is in check_gpu_maps.c.
 *
 * Tensors are addresses alone: nothing here, nor in the code under test, looks at what lies there.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <pthread.h>
#include <stdint.h>

#define LAUNCHES_MAX 16

/* A launch as it was seen, with its arguments. */
struct seen {
    char stage[32];
    unsigned grid[3], cluster[3], threads, shared_bytes;
    void *stream;
    union {
        struct tamis_score_args score;
        struct tamis_score_tma_args score_tma;
        struct tamis_pool_args pool;
        struct tamis_budget_args budget;
        struct tamis_tokens_args tokens;
        struct tamis_compress_args compress;
        struct tamis_attend_args attend;
        struct tamis_attend_tma_args attend_tma;
        struct tamis_decompress_args decompress;
    } args;
};

static struct {
    int count;
    struct seen list[LAUNCHES_MAX];
    long blocking; /* calls up to when the plan was made */
} seen;

static bool tma; /* the store's kernels are the _tma ones */

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
    child_expect(seen.count < LAUNCHES_MAX, "more than %d launches", LAUNCHES_MAX);
    struct seen *one = &seen.list[seen.count++];
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

/* ---- the problem's tensors, at addresses far apart */

#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_LSE, AT_SCORE, AT_KEPT, AT_INDICES, AT_WORKSPACE, AT_RANK, AT_MEAN, AT_COMPACT };

static tamis_tensor tensor_at(int number, const tamis_problem *problem, int heads, long long rows)
{
    const long long head_stride = rows * problem->head_dim;
    return (tamis_tensor){AT(number), heads * head_stride, head_stride, problem->head_dim};
}

static tamis_run_args run_args(const tamis_problem *problem)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_at(AT_Q, problem, problem->q_heads, problem->seq_len);
    args.k = tensor_at(AT_K, problem, problem->kv_heads, problem->seq_len);
    args.v = tensor_at(AT_V, problem, problem->kv_heads, problem->seq_len);
    args.output = tensor_at(AT_OUTPUT, problem, problem->q_heads, problem->seq_len);
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

/* Is it known before a run how many tokens are kept? */
static bool keeps_fixed(const tamis_plan *plan)
{
    return plan->problem.selection.policy != TAMIS_COVERAGE || plan->facts.dense;
}

/* The grid that a stage must have; block sizes as in gpu_plan_entries. */
static void wanted_grid(unsigned grid[3], const tamis_plan *plan, const struct seen *one)
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
                  {"select_budget", {candidates > 2900 && !keeps_fixed(plan) ? 6 : 1, batch, 1}},
                  {"select_tokens", {candidates > 5000 ? 3 : 1, (unsigned)tamis_plan_index_heads(plan), batch}},
                  {"compress", {tiles(capacity, 20) * run, compress_heads(&one->args.compress) / run, batch}},
                  {"attend", {tiles(capacity, 48), q_heads, batch}},
                  {"attend_tma", {persistent((unsigned long long)tiles(capacity, 112) * q_heads * batch), 1, 1}},
                  {"decompress", {tiles(problem->seq_len, 28), q_heads, batch}}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (strcmp(wanted[i].stage, one->stage) == 0) memcpy(grid, wanted[i].grid, sizeof wanted[i].grid);
}

static void expect_block(const struct seen *one, const char *what)
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
static void expect_cluster(const struct seen *one, const char *what)
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

/* Everything launched since the last such call, and nothing else; of a stage and its _tma the one that the store has. */
static void expect_launches(const struct gpu_bench *bench, const char *stages, const char *what)
{
    char all[512] = "";
    struct fake_cuda_counts counts;
    for (int i = 0; i < seen.count; i++) {
        const struct seen *one = &seen.list[i];
        unsigned grid[3] = {0, 0, 0};
        wanted_grid(grid, bench->plan, one);
        child_expect(memcmp(grid, one->grid, sizeof grid) == 0, "%s, %s: grid %u %u %u instead of %u %u %u", what,
                     one->stage, one->grid[0], one->grid[1], one->grid[2], grid[0], grid[1], grid[2]);
        expect_block(one, what);
        expect_cluster(one, what);
        child_expect(gpu_plan_has(tma, one->stage), "%s: %s", what, one->stage);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%.*s", i ? " " : "", plain_length(one->stage), one->stage);
    }
    child_expect(strcmp(all, stages) == 0, "%s: launched \"%s\" instead of \"%s\"", what, all, stages);
    bench->counts(&counts);
    child_expect(counts.misuses == 0, "%s: %s", what, counts.misuse);
    child_expect(counts.blocking == seen.blocking, "%s: %ld calls that allocate, copy or wait", what,
                 counts.blocking - seen.blocking);
    seen.count = 0;
}

static const struct seen *find_seen(const char *stage, int nth)
{
    for (int i = 0; i < seen.count; i++)
        if (strcmp(seen.list[i].stage, stage) == 0 && nth-- == 0) return &seen.list[i];
    child_expect(false, "%s was not launched", stage);
    return NULL;
}

static const struct tamis_attend_args *find_attend(void)
{
    const struct seen *one = find_seen(tma ? "attend_tma" : "attend", 0);
    return tma ? &one->args.attend_tma.attend : &one->args.attend;
}

static const struct tamis_score_args *find_sum(void)
{
    const struct seen *one = find_seen(tma ? "score_sum_tma" : "score_sum", 0);
    return tma ? &one->args.score_tma.score : &one->args.score;
}

#define SCORE_STAGES "score_stats score_merge score_sum select_pool"
#define SELECT_STAGES "select_budget select_tokens"

/* A fixed budget is written by select_pool, and one kernel for attention writes the dropped rows as well. */
#define SPARSE_STAGES(budget) \
    (tma ? SCORE_STAGES budget " select_tokens compress attend" : SCORE_STAGES budget " select_tokens compress attend decompress")
static const char *sparse_stages(const tamis_plan *plan)
{
    return keeps_fixed(plan) ? SPARSE_STAGES("") : SPARSE_STAGES(" select_budget");
}

/* ---- problems */

static const struct shape {
    long long seq_len;
    int batch, q_heads, kv_heads;
    tamis_scope scope;
    tamis_policy policy;
    int window;
    bool dense;
    tamis_mask mask;
} shapes[] = {
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

static tamis_problem shape_problem(const struct shape *shape)
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

static void open_shape(struct gpu_bench *bench, const struct shape *shape)
{
    const tamis_problem problem = shape_problem(shape);
    bench_environment(NULL);
    bench_open(bench);
    bench->watch(note_launch, NULL);
    bench_must(tamis_plan_create(&bench->plan, bench->context, bench->store, &problem), "plan");
    bench->assume(AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench->plan));
    struct fake_cuda_counts counts;
    bench->counts(&counts);
    seen.blocking = counts.blocking;
}

/* ---- tamis_run */

/* In a sparse run one kernel writes how many tokens are kept to `kept`: select_pool, or by coverage select_budget. */
static void expect_kept(const tamis_plan *plan, const int *kept)
{
    const struct tamis_pool_args *pool = &find_seen("select_pool", 0)->args.pool;
    child_expect(find_seen("select_tokens", 0)->args.tokens.kept == kept, "select reads other counts");
    if (keeps_fixed(plan)) {
        child_expect(pool->kept == kept, "the fixed budget goes elsewhere");
        child_expect(pool->fixed_kept == tamis_plan_capacity(plan), "%d tokens are kept", pool->fixed_kept);
    } else {
        child_expect(pool->kept == NULL, "pool writes the counts");
        child_expect(find_seen("select_budget", 0)->args.budget.kept == kept, "the budget goes elsewhere");
    }
}

static void expect_sparse_args(const tamis_plan *plan)
{
    const char *workspace = AT(AT_WORKSPACE);
    const struct tamis_score_args *score = find_sum();
    const struct tamis_compress_args *compress = &find_seen("compress", 0)->args.compress;
    const struct tamis_compress_tensor *k = &compress->tensors[0], *v = &compress->tensors[1];
    const struct tamis_attend_args *attend = find_attend();
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    expect_kept(plan, attend->kept);
    child_expect(score->q.data == AT(AT_Q) && score->k.data == AT(AT_K), "score reads something else");
    child_expect(score->score == find_seen("select_pool", 0)->args.pool.score, "pool reads another score");
    child_expect(score->chunk_keys % TAMISI_CHUNK_ALIGN == 0 && score->chunks * score->chunk_keys >= score->seq_len &&
                     (score->chunks - 1) * score->chunk_keys < score->seq_len,
                 "%d chunks of %lld keys for %lld", score->chunks, score->chunk_keys, score->seq_len);
    child_expect(k->source.data == AT(AT_K) && v->source.data == AT(AT_V), "compress reads something else");
    child_expect(compress->tensors[2].heads == 0, "compress copies Q");
    child_expect(compress->skip_dense, "compress copies sequences that keep all");
    child_expect(attend->k.data == k->compact.data && attend->v.data == v->compact.data, "attend reads other compact rows");
    const bool may_keep_all = plan->facts.fixed_keep < 0;
    child_expect(attend->k_full.data == (may_keep_all ? AT(AT_K) : NULL) &&
                     attend->v_full.data == (may_keep_all ? AT(AT_V) : NULL),
                 "attend has K and V where it needs none, or lacks them");
    child_expect(attend->output.data == AT(AT_OUTPUT), "another output");
    child_expect(attend->indices == compress->indices && attend->kept == compress->kept, "lists differ");
    if (!tma) {
        const struct tamis_decompress_args *decompress = &find_seen("decompress", 0)->args.decompress;
        child_expect(decompress->output.data == AT(AT_OUTPUT), "decompress: another output");
        child_expect(attend->indices == decompress->indices && attend->kept == decompress->kept, "decompress: lists differ");
        child_expect(decompress->compact.data == NULL, "decompress copies rows that are in place");
    }
    const char *parts[] = {(const char *)score->partial, (const char *)score->lse2, (const char *)score->score,
                           (const char *)attend->kept, (const char *)attend->indices, attend->k.data, attend->v.data};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        child_expect(parts[i] >= workspace && parts[i] < workspace + bytes, "part %zu is outside the workspace", i);
        child_expect((uintptr_t)parts[i] % 256 == 0, "part %zu is not aligned", i);
        for (size_t j = 0; j < i; j++) child_expect(parts[i] != parts[j], "parts %zu and %zu are one", i, j);
    }
    const long long compact_bytes = (long long)plan->problem.batch * plan->facts.compact_heads * plan->facts.capacity *
                                    plan->problem.head_dim * 2;
    child_expect((const char *)attend->v.data + compact_bytes <= workspace + bytes, "compact V passes the workspace's end");
}

static void expect_run(const void *argument)
{
    const struct shape *shape = argument;
    const tamis_problem problem = shape_problem(shape);
    struct gpu_bench bench;
    tamis_stream stream;
    tamis_run_args args = run_args(&problem);
    open_shape(&bench, shape);
    bench_must(tamis_stream_create(&stream, bench.context), "stream");
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    void *workspace = AT(AT_WORKSPACE);

    bench_must(tamis_run(bench.plan, &args, workspace, bytes, stream), "run");
    for (int i = 0; i < seen.count; i++)
        child_expect(seen.list[i].stream == stream, "%s: another stream", seen.list[i].stage);
    if (!shape->dense) expect_sparse_args(bench.plan);
    expect_launches(&bench, shape->dense ? "attend" : sparse_stages(bench.plan), "run");

    args.lse = AT(AT_LSE);
    args.score = AT(AT_SCORE);
    args.kept = AT(AT_KEPT);
    args.indices = AT(AT_INDICES);
    bench_must(tamis_run(bench.plan, &args, workspace, bytes, NULL), "run with everything");
    const struct tamis_attend_args *attend = find_attend();
    child_expect(attend->lse == AT(AT_LSE) && attend->lse_rows == problem.seq_len, "lse goes elsewhere");
    child_expect(attend->causal == (problem.mask == TAMIS_CAUSAL), "another mask");
    if (shape->dense)
        child_expect(find_seen("select_budget", 0)->args.budget.kept == AT(AT_KEPT), "kept goes elsewhere");
    else
        expect_kept(bench.plan, AT(AT_KEPT));
    child_expect(find_seen("select_tokens", 0)->args.tokens.indices == AT(AT_INDICES), "indices go elsewhere");
    if (problem.seq_len > problem.selection.window)
        child_expect(find_sum()->score == AT(AT_SCORE), "score goes elsewhere");
    expect_launches(&bench, !shape->dense                                     ? sparse_stages(bench.plan)
                            : problem.seq_len > problem.selection.window ? SCORE_STAGES " " SELECT_STAGES " attend"
                                                                              : SELECT_STAGES " attend",
                    "run with everything");
    tamis_stream_free(bench.context, stream);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

/* Each shape with both kinds of kernels. */
static void run_shape(void (*body)(const void *), int i)
{
    tma = i % 2 == 1;
    gpu_plan_make_store(&(struct store_plan){.tma = tma});
    child_run(body, &shapes[i / 2]);
}

START_TEST(test_run) { run_shape(expect_run, _i); }
END_TEST

/* ---- the steps */

/* K, V and, if it was asked for, Q, each with its heads. */
static void expect_compress(const tamis_plan *plan, bool with_q)
{
    const struct tamis_compress_args *args = &find_seen("compress", 0)->args.compress;
    const int q_heads = plan->problem.q_heads, kv_heads = plan->problem.kv_heads, heads = tamis_plan_compact_heads(plan);
    const struct {
        int source, compact, source_heads, heads;
    } wanted[] = {{AT_K, AT_COMPACT + 1, kv_heads, heads},
                  {AT_V, AT_COMPACT + 2, kv_heads, heads},
                  {AT_Q, AT_COMPACT, q_heads, q_heads}};
    for (int i = 0; i < 2 + with_q; i++) {
        const struct tamis_compress_tensor *tensor = &args->tensors[i];
        child_expect(tensor->source.data == AT(wanted[i].source) && tensor->compact.data == AT(wanted[i].compact),
                     "compress: tensor %d is another", i);
        child_expect(tensor->source_heads == wanted[i].source_heads && tensor->heads == wanted[i].heads,
                     "compress: tensor %d has %d heads of %d", i, tensor->heads, tensor->source_heads);
    }
    child_expect(with_q || args->tensors[2].heads == 0, "compress copies Q");
    child_expect(!args->skip_dense, "compress skips");
    child_expect(args->head_run == heads / kv_heads, "compress: runs of %d heads", args->head_run);
}

static void expect_steps(const void *argument)
{
    const struct shape *shape = argument;
    const tamis_problem problem = shape_problem(shape);
    struct gpu_bench bench;
    open_shape(&bench, shape);
    const tamis_plan *plan = bench.plan;
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    const long long capacity = tamis_plan_capacity(plan);
    const int heads = tamis_plan_compact_heads(plan);
    void *workspace = AT(AT_WORKSPACE);
    const tamis_run_args args = run_args(&problem);
    const tamis_tensor q = tensor_at(AT_COMPACT, &problem, problem.q_heads, capacity);
    const tamis_tensor k = tensor_at(AT_COMPACT + 1, &problem, heads, capacity);
    const tamis_tensor v = tensor_at(AT_COMPACT + 2, &problem, heads, capacity);
    const tamis_tensor output = tensor_at(AT_COMPACT + 3, &problem, problem.q_heads, capacity);

    bench_must(tamis_score(plan, &args.q, &args.k, AT(AT_SCORE), AT(AT_RANK), AT(AT_MEAN), workspace, bytes, NULL),
               "score");
    if (problem.seq_len > problem.selection.window)
        child_expect(find_seen("select_pool", 0)->args.pool.kept == NULL, "score writes how many are kept");
    expect_launches(&bench, problem.seq_len > problem.selection.window ? SCORE_STAGES : "", "score");
    bench_must(tamis_select(plan, AT(AT_RANK), AT(AT_MEAN), AT(AT_KEPT), AT(AT_INDICES), workspace, bytes, NULL), "select");
    child_expect(find_seen("select_tokens", 0)->args.tokens.capacity == capacity, "select: another capacity");
    expect_launches(&bench, SELECT_STAGES, "select");
    bench_must(tamis_compress(plan, &args.q, &args.k, &args.v, AT(AT_KEPT), AT(AT_INDICES), &q, &k, &v, workspace,
                              bytes, NULL),
               "compress");
    expect_compress(plan, true);
    expect_launches(&bench, "compress", "compress");
    bench_must(
        tamis_compress(plan, NULL, &args.k, &args.v, AT(AT_KEPT), AT(AT_INDICES), NULL, &k, &v, workspace, bytes, NULL),
        "compress without Q");
    expect_compress(plan, false);
    expect_launches(&bench, "compress", "compress without Q");
    bench_must(tamis_attend(plan, &q, &k, &v, AT(AT_KEPT), &output, AT(AT_LSE), workspace, bytes, NULL), "attend");
    const struct tamis_attend_args *attend = find_attend();
    child_expect(attend->lse_rows == capacity && !attend->indices && !attend->k_full.data, "attend on compact rows");
    child_expect(attend->causal == (problem.mask == TAMIS_CAUSAL), "attend: another mask");
    expect_launches(&bench, "attend", "attend");
    bench_must(tamis_decompress(plan, &output, AT(AT_RANK), AT(AT_KEPT), AT(AT_INDICES), &args.output, AT(AT_LSE),
                                workspace, bytes, NULL),
               "decompress");
    const struct tamis_decompress_args *decompress = &find_seen("decompress", 0)->args.decompress;
    child_expect(decompress->compact.data == output.data && decompress->compact_lse == AT(AT_RANK),
                 "decompress reads other rows");
    expect_launches(&bench, "decompress", "decompress");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_steps) { run_shape(expect_steps, _i); }
END_TEST

/* ---- threads, streams and contexts of the host */

enum { threads_count = 4, runs_a_thread = 50 };

static void *run_plan(void *argument)
{
    struct gpu_bench *bench = argument;
    const tamis_run_args args = run_args(&bench->plan->problem);
    for (int i = 0; i < runs_a_thread; i++)
        if (tamis_run(bench->plan, &args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench->plan), NULL) != TAMIS_OK)
            return NULL;
    return bench;
}

static void expect_threads(const void *argument)
{
    pthread_t threads[threads_count];
    struct fake_cuda_counts counts;
    struct gpu_bench bench;
    (void)argument;
    open_shape(&bench, &shapes[0]);
    bench.watch(NULL, NULL);
    for (int i = 0; i < threads_count; i++)
        child_expect(pthread_create(&threads[i], NULL, run_plan, &bench) == 0, "no thread");
    for (int i = 0; i < threads_count; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        child_expect(result == &bench, "thread %d failed", i);
    }
    bench.counts(&counts);
    child_expect(counts.launches == 9 * threads_count * runs_a_thread, "%ld launches", counts.launches);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_threads)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_threads, NULL);
}
END_TEST

/* The host's own context, of another GPU, is current again after every call. */
static void expect_host_context(const void *argument)
{
    const tamis_problem problem = shape_problem(&shapes[0]);
    const tamis_run_args args = run_args(&problem);
    const struct tamisi_cuda *cuda;
    tamisi_cu_context own, popped;
    tamis_stream foreign;
    struct gpu_bench bench;
    struct fake_cuda_counts counts;
    (void)argument;
    setenv("FAKE_CUDA_DEVICES", "2", 1);
    open_shape(&bench, &shapes[0]);
    bench_must(tamisi_cuda_get(&cuda), "driver");
    child_expect(cuda->primary_ctx_retain(&own, 1) == 0 && cuda->ctx_push(own) == 0, "no context of the host");
    child_expect(cuda->stream_create(&foreign, 0) == 0, "no stream");
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), bytes, NULL), "run");
    expect_launches(&bench, sparse_stages(bench.plan), "run");
    /* A stream of that other GPU is an error, and nothing is launched on it. */
    const tamis_status status = tamis_run(bench.plan, &args, AT(AT_WORKSPACE), bytes, foreign);
    child_expect(status == TAMIS_ECUDA && seen.count == 0, "%s: %d launches", tamis_status_name(status), seen.count);
    child_expect(strstr(tamis_last_error(), "k_score_score_stats: CUDA_ERROR_INVALID_CONTEXT") != NULL, "%s",
                 tamis_last_error());
    bench_close(&bench);
    child_expect(cuda->stream_destroy(foreign) == 0, "the stream is gone");
    child_expect(cuda->ctx_pop(&popped) == 0 && popped == own, "another context is current");
    child_expect(cuda->primary_ctx_release(1) == 0, "the host's context is gone");
    bench.counts(&counts);
    child_expect(counts.misuses == 1 && strstr(counts.misuse, "the stream is of another context"), "%ld misuses: %s",
                 counts.misuses, counts.misuse);
    child_expect(counts.retained == 0 && counts.pushed == 0 && counts.libraries == 0, "something is left open");
}

START_TEST(test_host_context)
{
    gpu_plan_make_store(&(struct store_plan){.arch = NULL});
    child_run(expect_host_context, NULL);
}
END_TEST

TCase *gpu_launch_case(void)
{
    TCase *launches = tcase_create("launches");
    const int count = sizeof shapes / sizeof *shapes;
    tcase_add_checked_fixture(launches, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(launches, test_run, 0, 2 * count);
    tcase_add_loop_test(launches, test_steps, 0, 2 * count);
    tcase_add_test(launches, test_threads);
    tcase_add_test(launches, test_host_context);
    return launches;
}
