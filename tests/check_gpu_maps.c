/*
 * check_gpu_maps.c: what kernels that read through the tensor copy engine are launched with: maps of the right tensors,
 * whatever their layout and what the plan has kept of them, how many tiles and heads attention has, and the counter that hands
 * the tiles out. The fake libcuda writes into a map how it was asked for. Part of the gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <pthread.h>
#include <stdint.h>

/* In gpu_plan_entries: of attend_tma; of score_stats_tma, and of score_sum_tma. */
enum { block_m = 112, block_n = 80, stats_block_n = 32, sum_block_m = 208, sum_block_n = 40 };

static _Thread_local struct {
    int all, attends; /* launches */
    struct tamis_score_tma_args stats, sum;
    struct tamis_attend_tma_args args;
    unsigned long long cleared; /* before attention: on the stream, or by compress */
    size_t cleared_bytes;
} seen;

static void note_launch(void *payload, const struct fake_cuda_launch *launch)
{
    (void)payload;
    seen.all++;
    if (strstr(launch->symbol, "score_stats_tma")) memcpy(&seen.stats, launch->params[0], sizeof seen.stats);
    if (strstr(launch->symbol, "score_sum_tma")) memcpy(&seen.sum, launch->params[0], sizeof seen.sum);
    if (strstr(launch->symbol, "compress")) {
        const struct tamis_compress_args *compress = launch->params[0];
        seen.cleared = (uintptr_t)compress->counter;
        seen.cleared_bytes = sizeof *compress->counter;
    }
    if (!strstr(launch->symbol, "attend_tma")) return;
    seen.attends++;
    memcpy(&seen.args, launch->params[0], sizeof seen.args);
    if (seen.args.attend.indices) return;
    seen.cleared = launch->cleared;
    seen.cleared_bytes = launch->cleared_bytes;
}

#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 48))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_WORKSPACE, AT_KEPT };

/* ---- what a map must be */

static void expect_map(const struct tamis_tensor_map *map, const char *name, const tamis_problem *problem,
                       const tamis_tensor *tensor, int heads, long long rows, int box_rows)
{
    const unsigned long long sizes[] = {(unsigned)problem->head_dim, (unsigned long long)rows, (unsigned)heads,
                                        (unsigned)problem->batch};
    const long long strides[] = {2 * tensor->token_stride, 2 * tensor->head_stride, 2 * tensor->batch_stride};
    const int type = problem->dtype == TAMIS_BF16 ? TAMISI_CU_TENSOR_BFLOAT16 : TAMISI_CU_TENSOR_FLOAT16;
    struct fake_cuda_map made;
    memcpy(&made, map, sizeof made);
    child_expect(made.mark == FAKE_CUDA_MAP, "%s: no map", name);
    child_expect(made.address == tensor->data, "%s: at %p instead of %p", name, made.address, tensor->data);
    child_expect(made.rank == 4 && made.type == type, "%s: rank %d, type %d", name, made.rank, made.type);
    for (int i = 0; i < 4; i++)
        child_expect(made.sizes[i] == sizes[i], "%s: size %d is %llu instead of %llu", name, i, made.sizes[i], sizes[i]);
    for (int i = 0; i < 3; i++) /* of a dimension of one element any stride is right that the driver takes */
        child_expect(sizes[i + 1] == 1 || made.strides[i] == (unsigned long long)strides[i],
                     "%s: stride %d is %llu instead of %lld", name, i, made.strides[i], strides[i]);
    child_expect(made.box[0] == 64 && made.box[1] == box_rows && made.box[2] == 1 && made.box[3] == 1,
                 "%s: boxes of %d by %d by %d by %d", name, made.box[0], made.box[1], made.box[2], made.box[3]);
    for (int i = 0; i < 4; i++) child_expect(made.steps[i] == 1, "%s: steps of %d", name, made.steps[i]);
    child_expect(made.swizzle == TAMISI_CU_SWIZZLE_128B, "%s: swizzle %d", name, made.swizzle);
}

static void expect_no_map(const struct tamis_tensor_map *map, const char *name)
{
    static const struct tamis_tensor_map none;
    child_expect(memcmp(map, &none, sizeof none) == 0, "%s: a map of what is not read", name);
}

/* ---- layouts */

enum order {
    HEADS,       /* (B, H, L, D) */
    TOKENS,      /* (B, L, H, D) */
    HEADS_FIRST, /* (H, B, L, D) */
    PADDED,      /* (B, H, L, D) with room behind each row, head and sequence */
    ALL_ONE,     /* one row in all, and strides that no dimension uses: as far as they go */
    NO_STRIDES   /* the same, with zeros */
};

static const struct layout {
    const char *name;
    long long seq_len;
    int batch, q_heads, kv_heads;
    tamis_policy policy;
    tamis_scope scope;
    enum order order;
    bool fp16;
} layouts[] = {
    {"dense", 4096, 1, 32, 8, TAMIS_DENSE, TAMIS_SCOPE_HEAD, HEADS, false},
    {"dense, fp16", 4096, 2, 32, 8, TAMIS_DENSE, TAMIS_SCOPE_HEAD, HEADS, true},
    {"dense, batch, tokens first", 1000, 3, 6, 2, TAMIS_DENSE, TAMIS_SCOPE_HEAD, TOKENS, false},
    {"dense, heads first", 777, 5, 4, 4, TAMIS_DENSE, TAMIS_SCOPE_HEAD, HEADS_FIRST, false},
    {"dense, padded", 777, 2, 4, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, PADDED, false},
    {"dense, one row", 1, 1, 1, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, ALL_ONE, false},
    {"dense, one row, no strides", 1, 1, 1, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, NO_STRIDES, false},
    {"dense, one head", 100, 4, 1, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, TOKENS, false},
    {"dense, 2^24", 1 << 24, 1, 64, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, TOKENS, false},
    {"sparse", 131072, 1, 32, 8, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, HEADS, false},
    {"sparse, batch, tokens first", 5000, 3, 6, 2, TAMIS_RATIO, TAMIS_SCOPE_KV_GROUP, TOKENS, false},
    {"sparse, fp16, padded", 5000, 2, 8, 4, TAMIS_COUNT, TAMIS_SCOPE_LAYER, PADDED, true},
    {"sparse, heads first", 5000, 2, 8, 4, TAMIS_COUNT, TAMIS_SCOPE_HEAD, HEADS_FIRST, false},
    {"sparse, 2^24", 1 << 24, 2, 32, 8, TAMIS_COVERAGE, TAMIS_SCOPE_HEAD, TOKENS, false},
    {"sparse, 2^24 - 1", (1 << 24) - 1, 1, 64, 8, TAMIS_RATIO, TAMIS_SCOPE_KV_GROUP, HEADS, false},
};

static tamis_problem layout_problem(const struct layout *layout)
{
    tamis_problem problem = bench_problem(layout->seq_len);
    if (layout->fp16) problem.dtype = TAMIS_FP16;
    problem.batch = layout->batch;
    problem.q_heads = layout->q_heads;
    problem.kv_heads = layout->kv_heads;
    problem.selection.policy = layout->policy;
    problem.selection.scope = layout->scope;
    problem.selection.ratio = 0.25;
    problem.selection.count = 2000;
    return problem;
}

static tamis_tensor lay_out(const struct layout *layout, void *data, int heads, long long rows)
{
    enum { dim = 128 };
    const long long far = 1ll << 50;
    switch (layout->order) {
    case HEADS: break;
    case TOKENS: return (tamis_tensor){data, rows * heads * dim, dim, heads * dim};
    case HEADS_FIRST: return (tamis_tensor){data, rows * dim, layout->batch * rows * dim, dim};
    case PADDED: {
        const long long row = dim + 8, head = rows * row + 24;
        return (tamis_tensor){data, heads * head + 40, head, row};
    }
    case ALL_ONE: return (tamis_tensor){data, far, far, far};
    case NO_STRIDES: return (tamis_tensor){data, 0, 0, dim};
    }
    return (tamis_tensor){data, heads * rows * dim, rows * dim, dim};
}

static tamis_run_args run_args(const struct layout *layout)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = lay_out(layout, AT(AT_Q), layout->q_heads, layout->seq_len);
    args.k = lay_out(layout, AT(AT_K), layout->kv_heads, layout->seq_len);
    args.v = lay_out(layout, AT(AT_V), layout->kv_heads, layout->seq_len);
    args.output = lay_out(layout, AT(AT_OUTPUT), layout->q_heads, layout->seq_len);
    return args;
}

/* ---- tamis_run and the step */

/* Tiles, heads, and a counter of tiles in the workspace that is cleared on the stream before the launch. */
static void expect_tiles(const tamis_plan *plan, const char *what)
{
    const struct tamis_attend_tma_args *args = &seen.args;
    const long long capacity = tamis_plan_capacity(plan), tiles = (capacity + block_m - 1) / block_m;
    child_expect(seen.attends == 1, "%s: %d launches", what, seen.attends);
    child_expect(args->tiles == tiles && args->heads == plan->problem.batch * plan->problem.q_heads,
                 "%s: %d tiles, %d heads", what, args->tiles, args->heads);
    child_expect(args->attend.capacity == capacity && args->attend.seq_len == plan->problem.seq_len, "%s: other lengths",
                 what);
    child_expect((char *)args->counter == (char *)AT(AT_WORKSPACE) + plan->workspace.counter, "%s: another counter", what);
    child_expect(seen.cleared == (uintptr_t)args->counter && seen.cleared_bytes == sizeof *args->counter,
                 "%s: the counter is not cleared", what);
    seen.attends = 0;
}

static void expect_dense_run(const tamis_plan *plan, const tamis_run_args *run)
{
    const struct tamis_attend_tma_args *args = &seen.args;
    const tamis_problem *problem = &plan->problem;
    expect_tiles(plan, "dense run");
    expect_map(&args->q, "Q", problem, &run->q, problem->q_heads, problem->seq_len, block_m);
    expect_map(&args->k, "K", problem, &run->k, problem->kv_heads, problem->seq_len, block_n);
    expect_map(&args->v, "V", problem, &run->v, problem->kv_heads, problem->seq_len, block_n);
    expect_no_map(&args->k_full, "full K");
    expect_no_map(&args->v_full, "full V");
    child_expect(!args->attend.indices && !args->attend.kept, "dense run: lists");
}

/* The first pass reads rows of Q itself. */
static void expect_score(const tamis_problem *problem, const tamis_run_args *run)
{
    expect_no_map(&seen.stats.q, "Q of the first pass");
    expect_map(&seen.stats.k, "K of the first pass", problem, &run->k, problem->kv_heads, problem->seq_len, stats_block_n);
    expect_map(&seen.sum.q, "Q of the second pass", problem, &run->q, problem->q_heads, problem->seq_len, sum_block_n);
    expect_map(&seen.sum.k, "K of the second pass", problem, &run->k, problem->kv_heads, problem->seq_len, sum_block_m);
}

/* Compact K and V are plain tensors in the workspace; Q is gathered, so no map could tell where its rows are. */
static void expect_sparse_run(const tamis_plan *plan, const tamis_run_args *run)
{
    const struct tamis_attend_tma_args *args = &seen.args;
    const tamis_problem *problem = &plan->problem;
    const int heads = tamis_plan_compact_heads(plan);
    const long long capacity = tamis_plan_capacity(plan), head = capacity * problem->head_dim;
    const size_t places[] = {plan->workspace.compact_k, plan->workspace.compact_v};
    tamis_tensor compact[2];
    for (int i = 0; i < 2; i++)
        compact[i] = (tamis_tensor){(char *)AT(AT_WORKSPACE) + places[i], heads * head, head, problem->head_dim};
    expect_tiles(plan, "sparse run");
    expect_score(problem, run);
    expect_no_map(&args->q, "gathered Q");
    expect_map(&args->k, "compact K", problem, &compact[0], heads, capacity, block_n);
    expect_map(&args->v, "compact V", problem, &compact[1], heads, capacity, block_n);
    if (plan->facts.fixed_keep < 0) { /* all may be kept */
        expect_map(&args->k_full, "full K", problem, &run->k, problem->kv_heads, problem->seq_len, block_n);
        expect_map(&args->v_full, "full V", problem, &run->v, problem->kv_heads, problem->seq_len, block_n);
    } else {
        expect_no_map(&args->k_full, "full K");
        expect_no_map(&args->v_full, "full V");
    }
    const struct tamis_rows *q = &args->attend.q;
    child_expect(args->attend.indices && q->data == run->q.data && q->batch_stride == run->q.batch_stride &&
                     q->head_stride == run->q.head_stride && q->row_stride == run->q.token_stride,
                 "Q is gathered from elsewhere");
}

static void expect_step(const tamis_plan *plan, const struct layout *layout)
{
    const struct tamis_attend_tma_args *args = &seen.args;
    const tamis_problem *problem = &plan->problem;
    const int heads = tamis_plan_compact_heads(plan);
    const long long capacity = tamis_plan_capacity(plan);
    const tamis_tensor q = lay_out(layout, AT(AT_Q), problem->q_heads, capacity);
    const tamis_tensor k = lay_out(layout, AT(AT_K), heads, capacity), v = lay_out(layout, AT(AT_V), heads, capacity);
    const tamis_tensor output = lay_out(layout, AT(AT_OUTPUT), problem->q_heads, capacity);
    bench_must(tamis_attend(plan, &q, &k, &v, AT(AT_KEPT), &output, NULL, AT(AT_WORKSPACE),
                            tamis_plan_workspace_bytes(plan), NULL),
               "step");
    expect_tiles(plan, "step");
    expect_map(&args->q, "compact Q", problem, &q, problem->q_heads, capacity, block_m);
    expect_map(&args->k, "compact K", problem, &k, heads, capacity, block_n);
    expect_map(&args->v, "compact V", problem, &v, heads, capacity, block_n);
    expect_no_map(&args->k_full, "full K");
    expect_no_map(&args->v_full, "full V");
    child_expect(!args->attend.indices && args->attend.kept == AT(AT_KEPT), "step: lists");
}

/* A plan, and one run of it. */
static tamis_status open_and_run(struct gpu_bench *bench, const struct layout *layout, const tamis_run_args *args)
{
    const tamis_problem problem = layout_problem(layout);
    bench_open(bench);
    bench->watch(note_launch, NULL);
    const tamis_status planned = tamis_plan_create(&bench->plan, bench->context, bench->store, &problem);
    if (planned != TAMIS_OK) return planned;
    const size_t bytes = tamis_plan_workspace_bytes(bench->plan);
    bench->assume(AT(AT_WORKSPACE), bytes);
    return tamis_run(bench->plan, args, AT(AT_WORKSPACE), bytes, NULL);
}

static void expect_layout(const void *argument)
{
    const struct layout *layout = argument;
    const tamis_run_args args = run_args(layout);
    struct gpu_bench bench;
    struct fake_cuda_counts counts;
    bench_environment(NULL);
    const tamis_status status = open_and_run(&bench, layout, &args);
    bench.counts(&counts);
    child_expect(status == TAMIS_OK, "%s: %s; %s", layout->name, tamis_last_error(), counts.misuse);
    if (layout->policy == TAMIS_DENSE) expect_dense_run(bench.plan, &args);
    else expect_sparse_run(bench.plan, &args);
    expect_step(bench.plan, layout);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_layout)
{
    gpu_plan_make_store(&(struct store_plan){.tma = true, .fp16 = layouts[_i].fp16});
    child_run(expect_layout, &layouts[_i]);
}
END_TEST

/* 128 tiles a head: up to 2^31 - 1 tiles are launched, more are refused with nothing launched. */
static void expect_limit(const void *argument)
{
    struct layout layout = {"limit", 128 * block_m, 65535, 1, 1, TAMIS_DENSE, TAMIS_SCOPE_HEAD, HEADS, false};
    (void)argument;
    bench_environment(NULL);
    for (int heads = 255; heads <= 257; heads++) {
        layout.q_heads = heads;
        const tamis_run_args args = run_args(&layout);
        const bool fits = heads <= 256; /* 65535 * 256 * 128 is just below 2^31 */
        struct gpu_bench bench;
        const tamis_status status = open_and_run(&bench, &layout, &args);
        child_expect(status == (fits ? TAMIS_OK : TAMIS_EUNSUPPORTED), "%d heads: %s", heads, tamis_last_error());
        child_expect(seen.all == fits, "%d heads: %d launches", heads, seen.all);
        child_expect(fits || strstr(tamis_last_error(), "batch * q_heads * seq_len is too large for k_attend_attend_tma"),
                     "%s", tamis_last_error());
        if (fits) expect_tiles(bench.plan, "as many as fit");
        seen.all = 0;
        bench_close(&bench);
        bench_expect_closed(&bench);
    }
}

START_TEST(test_limit)
{
    gpu_plan_make_store(&(struct store_plan){.tma = true});
    child_run(expect_limit, NULL);
}
END_TEST

/* ---- what a plan keeps */

static const struct layout kept_layout = {"kept", 5000, 2, 8, 4, TAMIS_RATIO, TAMIS_SCOPE_HEAD, HEADS, false};

/* A run, its maps, and how many the driver had to make for it. */
static void expect_made(const struct gpu_bench *bench, const tamis_run_args *args, long wanted, const char *what)
{
    struct fake_cuda_counts before, after;
    bench->counts(&before);
    bench_must(tamis_run(bench->plan, args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench->plan), NULL), what);
    bench->counts(&after);
    expect_sparse_run(bench->plan, args);
    child_expect(wanted < 0 || after.maps - before.maps == wanted, "%s: %ld maps are made instead of %ld", what,
                 after.maps - before.maps, wanted);
}

static tamis_run_args other_args(enum order order, int heads_apart)
{
    struct layout layout = kept_layout;
    layout.order = order;
    tamis_run_args args = run_args(&layout);
    args.k.data = (char *)args.k.data + 256ll * heads_apart;
    return args;
}

/* Of what was not seen before, each thing that a map tells alone. Far more tensors than a plan keeps are only made anew. */
static void expect_kept_maps(const void *argument)
{
    const tamis_run_args args = run_args(&kept_layout);
    const tamis_run_args tokens = other_args(TOKENS, 0), padded = other_args(PADDED, 0), moved = other_args(HEADS, 1);
    tamis_run_args batch = args, heads = padded, rows = padded;
    struct gpu_bench bench;
    (void)argument;
    batch.k.batch_stride += 8;
    heads.k.head_stride += 8;
    rows.k.token_stride += 8;
    bench_environment(NULL);
    bench_must(open_and_run(&bench, &kept_layout, &args), "the first run");
    expect_sparse_run(bench.plan, &args);
    expect_made(&bench, &args, 0, "again");
    expect_made(&bench, &moved, 2, "K elsewhere");
    expect_made(&bench, &tokens, 3, "other strides of all");
    expect_made(&bench, &batch, 2, "another stride of K's sequences");
    expect_made(&bench, &padded, 3, "room behind all rows");
    expect_made(&bench, &heads, 2, "another stride of K's heads");
    expect_made(&bench, &rows, 2, "another stride of K's rows");
    expect_made(&bench, &moved, 0, "K elsewhere, again");
    for (int i = 0; i < 1000; i++) {
        const tamis_run_args many = other_args(HEADS, i);
        expect_made(&bench, &many, -1, "many tensors");
        expect_made(&bench, &many, 0, "many tensors, each again");
    }
    bench.inject("cuTensorMapEncodeTiled", 1, 999);
    const tamis_run_args unseen = other_args(HEADS, -1);
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    child_expect(tamis_run(bench.plan, &unseen, AT(AT_WORKSPACE), bytes, NULL) == TAMIS_ECUDA, "a failure is kept back");
    expect_made(&bench, &unseen, 2, "after a failure");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_kept_maps)
{
    gpu_plan_make_store(&(struct store_plan){.tma = true});
    child_run(expect_kept_maps, NULL);
}
END_TEST

struct racer {
    const struct gpu_bench *bench;
    pthread_t thread;
    int first;
};

/* Each thread has tensors of its own, and some that all have: every run gets the maps of its own. */
static void *race(void *argument)
{
    const struct racer *racer = argument;
    for (int i = 0; i < 300; i++) {
        const tamis_run_args own = other_args(HEADS, racer->first + i % 7), shared = other_args(TOKENS, i);
        expect_made(racer->bench, &own, -1, "a thread's own");
        expect_made(racer->bench, &shared, -1, "what threads share");
    }
    return NULL;
}

static void expect_racers(const void *argument)
{
    const tamis_run_args args = run_args(&kept_layout);
    struct gpu_bench bench;
    struct racer racers[4];
    (void)argument;
    bench_environment(NULL);
    bench_must(open_and_run(&bench, &kept_layout, &args), "the first run");
    for (int i = 0; i < 4; i++) {
        racers[i] = (struct racer){.bench = &bench, .first = 100 * i};
        child_expect(pthread_create(&racers[i].thread, NULL, race, &racers[i]) == 0, "no thread");
    }
    for (int i = 0; i < 4; i++) pthread_join(racers[i].thread, NULL);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_racers)
{
    gpu_plan_make_store(&(struct store_plan){.tma = true});
    child_run(expect_racers, NULL);
}
END_TEST

TCase *gpu_maps_case(void)
{
    TCase *maps = tcase_create("maps");
    tcase_add_checked_fixture(maps, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(maps, test_layout, 0, sizeof layouts / sizeof *layouts);
    tcase_add_test(maps, test_limit);
    tcase_add_test(maps, test_kept_maps);
    tcase_add_test(maps, test_racers);
    return maps;
}
