/*
 * check_gpu_launch.c: what tamis_run and the five steps put on the stream: which kernels in which order, with what grid,
 * block, shared memory and arguments, for dense and sparse problems up to 2^24 tokens. Part of the gpu_plan suite. What
 * attention is told of its tensors through maps is in check_gpu_maps.c; threads are in check_gpu_threads.c.
 */
#define _XOPEN_SOURCE 700

#include "gpu_launch_case.h"

static const struct launch *find_launch(const char *stage, int nth)
{
    for (int i = 0; i < launched.count; i++)
        if (strcmp(launched.list[i].stage, stage) == 0 && nth-- == 0) return &launched.list[i];
    child_expect(false, "%s was not launched", stage);
    return NULL;
}

static const struct tamis_attend_args *find_attend(void)
{
    const struct launch *one = find_launch(launched.tma ? "attend_tma" : "attend", 0);
    return launched.tma ? &one->args.attend_tma.attend : &one->args.attend;
}

static const struct tamis_score_args *find_sum(void)
{
    const struct launch *one = find_launch(launched.tma ? "score_sum_tma" : "score_sum", 0);
    return launched.tma ? &one->args.score_tma.score : &one->args.score;
}

/* ---- tamis_run */

/* In a sparse run one kernel writes how many tokens are kept to `kept`: select_pool, or by coverage select_budget. */
static void expect_kept(const tamis_plan *plan, const int *kept)
{
    const struct tamis_pool_args *pool = &find_launch("select_pool", 0)->args.pool;
    child_expect(find_launch("select_tokens", 0)->args.tokens.kept == kept, "select reads other counts");
    if (launch_keeps_fixed(plan)) {
        child_expect(pool->kept == kept, "the fixed budget goes elsewhere");
        child_expect(pool->fixed_kept == tamis_plan_capacity(plan), "%d tokens are kept", pool->fixed_kept);
    } else {
        child_expect(pool->kept == NULL, "pool writes the counts");
        child_expect(find_launch("select_budget", 0)->args.budget.kept == kept, "the budget goes elsewhere");
    }
}

static void expect_sparse_args(const tamis_plan *plan)
{
    const char *workspace = AT(AT_WORKSPACE);
    const struct tamis_score_args *score = find_sum();
    const struct tamis_compress_args *compress = &find_launch("compress", 0)->args.compress;
    const struct tamis_compress_tensor *k = &compress->tensors[0], *v = &compress->tensors[1];
    const struct tamis_attend_args *attend = find_attend();
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    expect_kept(plan, attend->kept);
    child_expect(score->q.data == AT(AT_Q) && score->k.data == AT(AT_K), "score reads something else");
    child_expect(score->score == find_launch("select_pool", 0)->args.pool.score, "pool reads another score");
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
    if (!launched.tma) {
        const struct tamis_decompress_args *decompress = &find_launch("decompress", 0)->args.decompress;
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
    const struct launch_shape *shape = argument;
    const tamis_problem problem = launch_problem(shape);
    struct gpu_bench bench;
    tamis_stream stream;
    tamis_run_args args = launch_args(&problem);
    launch_open(&bench, shape);
    bench_must(tamis_stream_create(&stream, bench.context), "stream");
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    void *workspace = AT(AT_WORKSPACE);

    bench_must(tamis_run(bench.plan, &args, workspace, bytes, stream), "run");
    for (int i = 0; i < launched.count; i++)
        child_expect(launched.list[i].stream == stream, "%s: another stream", launched.list[i].stage);
    if (!shape->dense) expect_sparse_args(bench.plan);
    launch_expect(&bench, shape->dense ? "attend" : launch_sparse_stages(bench.plan), "run");

    args.lse = AT(AT_LSE);
    args.score = AT(AT_SCORE);
    args.kept = AT(AT_KEPT);
    args.indices = AT(AT_INDICES);
    bench_must(tamis_run(bench.plan, &args, workspace, bytes, NULL), "run with everything");
    const struct tamis_attend_args *attend = find_attend();
    child_expect(attend->lse == AT(AT_LSE) && attend->lse_rows == problem.seq_len, "lse goes elsewhere");
    child_expect(attend->causal == (problem.mask == TAMIS_CAUSAL), "another mask");
    if (shape->dense)
        child_expect(find_launch("select_budget", 0)->args.budget.kept == AT(AT_KEPT), "kept goes elsewhere");
    else
        expect_kept(bench.plan, AT(AT_KEPT));
    child_expect(find_launch("select_tokens", 0)->args.tokens.indices == AT(AT_INDICES), "indices go elsewhere");
    if (problem.seq_len > problem.selection.window)
        child_expect(find_sum()->score == AT(AT_SCORE), "score goes elsewhere");
    launch_expect(&bench, !shape->dense                                     ? launch_sparse_stages(bench.plan)
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
    launched.tma = i % 2 == 1;
    gpu_plan_make_store(&(struct store_plan){.tma = launched.tma});
    child_run(body, &launch_shapes[i / 2]);
}

START_TEST(test_run) { run_shape(expect_run, _i); }
END_TEST

/* ---- the steps */

/* K, V and, if it was asked for, Q, each with its heads. */
static void expect_compress(const tamis_plan *plan, bool with_q)
{
    const struct tamis_compress_args *args = &find_launch("compress", 0)->args.compress;
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
    const struct launch_shape *shape = argument;
    const tamis_problem problem = launch_problem(shape);
    struct gpu_bench bench;
    launch_open(&bench, shape);
    const tamis_plan *plan = bench.plan;
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    const long long capacity = tamis_plan_capacity(plan);
    const int heads = tamis_plan_compact_heads(plan);
    void *workspace = AT(AT_WORKSPACE);
    const tamis_run_args args = launch_args(&problem);
    const tamis_tensor q = launch_tensor(AT_COMPACT, &problem, problem.q_heads, capacity);
    const tamis_tensor k = launch_tensor(AT_COMPACT + 1, &problem, heads, capacity);
    const tamis_tensor v = launch_tensor(AT_COMPACT + 2, &problem, heads, capacity);
    const tamis_tensor output = launch_tensor(AT_COMPACT + 3, &problem, problem.q_heads, capacity);

    bench_must(tamis_score(plan, &args.q, &args.k, AT(AT_SCORE), AT(AT_RANK), AT(AT_MEAN), workspace, bytes, NULL),
               "score");
    if (problem.seq_len > problem.selection.window)
        child_expect(find_launch("select_pool", 0)->args.pool.kept == NULL, "score writes how many are kept");
    launch_expect(&bench, problem.seq_len > problem.selection.window ? SCORE_STAGES : "", "score");
    bench_must(tamis_select(plan, AT(AT_RANK), AT(AT_MEAN), AT(AT_KEPT), AT(AT_INDICES), workspace, bytes, NULL), "select");
    child_expect(find_launch("select_tokens", 0)->args.tokens.capacity == capacity, "select: another capacity");
    launch_expect(&bench, SELECT_STAGES, "select");
    bench_must(tamis_compress(plan, &args.q, &args.k, &args.v, AT(AT_KEPT), AT(AT_INDICES), &q, &k, &v, workspace,
                              bytes, NULL),
               "compress");
    expect_compress(plan, true);
    launch_expect(&bench, "compress", "compress");
    bench_must(
        tamis_compress(plan, NULL, &args.k, &args.v, AT(AT_KEPT), AT(AT_INDICES), NULL, &k, &v, workspace, bytes, NULL),
        "compress without Q");
    expect_compress(plan, false);
    launch_expect(&bench, "compress", "compress without Q");
    bench_must(tamis_attend(plan, &q, &k, &v, AT(AT_KEPT), &output, AT(AT_LSE), workspace, bytes, NULL), "attend");
    const struct tamis_attend_args *attend = find_attend();
    child_expect(attend->lse_rows == capacity && !attend->indices && !attend->k_full.data, "attend on compact rows");
    child_expect(attend->causal == (problem.mask == TAMIS_CAUSAL), "attend: another mask");
    launch_expect(&bench, "attend", "attend");
    bench_must(tamis_decompress(plan, &output, AT(AT_RANK), AT(AT_KEPT), AT(AT_INDICES), &args.output, AT(AT_LSE),
                                workspace, bytes, NULL),
               "decompress");
    const struct tamis_decompress_args *decompress = &find_launch("decompress", 0)->args.decompress;
    child_expect(decompress->compact.data == output.data && decompress->compact_lse == AT(AT_RANK),
                 "decompress reads other rows");
    launch_expect(&bench, "decompress", "decompress");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_steps) { run_shape(expect_steps, _i); }
END_TEST

TCase *gpu_launch_case(void)
{
    TCase *launches = tcase_create("launches");
    tcase_add_checked_fixture(launches, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(launches, test_run, 0, 2 * LAUNCH_SHAPES);
    tcase_add_loop_test(launches, test_steps, 0, 2 * LAUNCH_SHAPES);
    return launches;
}
