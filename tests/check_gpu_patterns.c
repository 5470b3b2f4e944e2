/*
 * check_gpu_patterns.c: plans whose pattern is made of Q and K, on the fake GPU: what is loaded for each kind and what a store
 * must have, what tamis_run and tamis_make_blocks launch, in what order, on what grids, and that what kernels are told of the
 * workspace lies in it and apart. Part of the gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <stdint.h>

#define LAUNCHES_MAX 24
#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_KEPT, AT_COUNT, AT_LIST, AT_WORKSPACE };
enum { LENGTH = 20000, TILES = (LENGTH + 127) / 128, HEADS = 32, KV_HEADS = 8, CHUNKS = 40 /* of 512 keys */ };

struct seen {
    char stage[32];
    unsigned grid[3], cluster;
    union {
        struct tamis_pattern_sliding_args sliding;
        struct tamis_pattern_means_args means;
        struct tamis_pattern_products_args products;
        struct tamis_pattern_choose_args choose;
        struct tamis_pattern_lines_args lines;
        struct tamis_pattern_heads_args heads;
        struct tamis_pattern_pairs_args pairs;
        struct tamis_pattern_xattn_args xattn;
        struct tamis_pattern_xattn_tma_args xattn_tma;
    } args;
};

static struct {
    int count;
    struct seen list[LAUNCHES_MAX];
} seen;

static void note_launch(void *payload, const struct fake_cuda_launch *launch)
{
    static const struct {
        const char *stage;
        size_t bytes;
    } sizes[] = {{"pattern_sliding", sizeof(struct tamis_pattern_sliding_args)},
                 {"pattern_means", sizeof(struct tamis_pattern_means_args)},
                 {"pattern_products", sizeof(struct tamis_pattern_products_args)},
                 {"pattern_choose", sizeof(struct tamis_pattern_choose_args)},
                 {"pattern_stats", sizeof(struct tamis_pattern_lines_args)},
                 {"pattern_merge", sizeof(struct tamis_pattern_lines_args)},
                 {"pattern_lines", sizeof(struct tamis_pattern_lines_args)},
                 {"pattern_heads", sizeof(struct tamis_pattern_heads_args)},
                 {"pattern_soften", sizeof(struct tamis_pattern_pairs_args)},
                 {"pattern_cut", sizeof(struct tamis_pattern_pairs_args)},
                 {"pattern_lists", sizeof(struct tamis_pattern_pairs_args)},
                 {"pattern_xattn", sizeof(struct tamis_pattern_xattn_args)},
                 {"pattern_xattn_tma", sizeof(struct tamis_pattern_xattn_tma_args)}};
    (void)payload;
    child_expect(seen.count < LAUNCHES_MAX, "more than %d launches", LAUNCHES_MAX);
    struct seen *one = &seen.list[seen.count++];
    memset(one, 0, sizeof *one);
    memcpy(one->grid, launch->grid, sizeof one->grid);
    one->cluster = launch->cluster[0];
    child_expect(launch->starts_early, "%s: set up only when the kernel before it is through", launch->symbol);
    for (size_t i = 0; i < GPU_PLAN_ENTRIES; i++) { /* the longest that the symbol ends with */
        const char *stage = gpu_plan_entries[i].stage;
        const size_t length = strlen(stage), symbol = strlen(launch->symbol);
        if (symbol > length && strcmp(launch->symbol + symbol - length, stage) == 0 && length > strlen(one->stage))
            snprintf(one->stage, sizeof one->stage, "%s", stage);
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].stage, one->stage) == 0) memcpy(&one->args, launch->params[0], sizes[i].bytes);
}

static const struct seen *find_seen(const char *stage)
{
    for (int i = 0; i < seen.count; i++)
        if (strcmp(seen.list[i].stage, stage) == 0) return &seen.list[i];
    child_expect(false, "%s was not launched", stage);
    return NULL;
}

static void expect_grid(const char *stage, unsigned x, unsigned y, unsigned z)
{
    const unsigned *grid = find_seen(stage)->grid;
    child_expect(grid[0] == x && grid[1] == y && grid[2] == z, "%s: grid %u %u %u", stage, grid[0], grid[1], grid[2]);
}

/* ---- a plan of each kind */

struct kind_case {
    tamis_pattern_kind kind;
    const char *makers; /* stages in order */
};

static const struct kind_case kinds[] = {
    {TAMIS_PATTERN_SLIDING, "pattern_sliding "},
    {TAMIS_PATTERN_VERTICAL_SLASH, "pattern_stats pattern_merge pattern_lines pattern_heads pattern_lists "},
    {TAMIS_PATTERN_FLEXPREFILL, "pattern_means pattern_stats pattern_merge pattern_lines pattern_heads pattern_products "
                                "pattern_soften pattern_cut pattern_lists "},
    {TAMIS_PATTERN_XATTENTION, "pattern_xattn pattern_choose "},
    {TAMIS_PATTERN_TOPK_BLOCKS, "pattern_means pattern_products pattern_choose "}};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static tamis_problem make_problem(bool dense)
{
    tamis_problem problem = bench_problem(LENGTH);
    problem.selection.policy = dense ? TAMIS_DENSE : TAMIS_COVERAGE;
    return problem;
}

static void open_plan(struct gpu_bench *bench, tamis_pattern_kind kind, bool dense)
{
    const tamis_problem problem = make_problem(dense);
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    pattern.kind = kind;
    options.pattern = &pattern;
    bench_environment(NULL);
    bench_open(bench);
    bench_must(tamis_plan_create_with(&bench->plan, bench->context, bench->store, &problem, &options), "plan");
    seen.count = 0;
    bench->watch(note_launch, NULL);
}

static tamis_tensor tensor_at(int number, const tamis_problem *problem, int heads)
{
    const long long head_stride = problem->seq_len * problem->head_dim;
    return (tamis_tensor){AT(number), heads * head_stride, head_stride, problem->head_dim};
}

/* ---- what kernels are told */

struct range {
    const char *name, *begin;
    size_t bytes;
};

/* Parts of the workspace: within it, apart from each other. */
static void expect_apart(const struct gpu_bench *bench, const struct range *ranges, int count)
{
    const char *begin = AT(AT_WORKSPACE), *end = begin + tamis_plan_workspace_bytes(bench->plan);
    for (int i = 0; i < count; i++) {
        const struct range *a = &ranges[i];
        child_expect(a->begin >= begin && a->begin + a->bytes <= end, "%s lies outside of the workspace", a->name);
        for (int j = 0; j < i; j++)
            child_expect(a->begin + a->bytes <= ranges[j].begin || ranges[j].begin + ranges[j].bytes <= a->begin,
                         "%s overlaps %s", a->name, ranges[j].name);
    }
}

static void expect_source(const struct tamis_pattern_source *source, bool dense)
{
    const bool sizes = source->seq_len == LENGTH && source->capacity == LENGTH && source->batch == 1 &&
                       source->q_heads == HEADS && source->kv_heads == KV_HEADS;
    child_expect(sizes && source->scale_log2 > 0.127f && source->scale_log2 < 0.128f, "the source of another problem");
    child_expect(source->q.data == AT(AT_Q), "Q lies elsewhere");
    child_expect((source->k.data == AT(AT_K)) == dense, "K is not compact, or is");
    child_expect((source->k_full.data == AT(AT_K)) != dense, "K is read in its place, or is not");
    child_expect((source->kept != NULL) != dense && (source->indices != NULL) != dense, "rows are taken for others");
    child_expect(source->compact_heads == (dense ? KV_HEADS : HEADS), "%d heads of K", source->compact_heads);
}

static void expect_sliding(const struct gpu_bench *bench)
{
    const struct tamis_pattern_sliding_args *args = &find_seen("pattern_sliding")->args.sliding;
    expect_grid("pattern_sliding", (TILES + 2) / 3, HEADS, 1);
    child_expect(args->sink_tokens == 128 && args->window_tokens == 3968 && args->lists.tiles == TILES, "another pattern");
    const struct range ranges[] = {
        {"masks", (const char *)args->masks, 16 * TAMIS_BLOCK_MASK_WORDS * sizeof(unsigned)},
        {"count", (const char *)args->lists.count, HEADS * TILES * sizeof(int)},
        {"list", (const char *)args->lists.list, HEADS * TILES * (size_t)args->lists.row * sizeof(int)}};
    expect_apart(bench, ranges, 3);
    child_expect(args->lists.row == 1 + 32, "rows of %d", args->lists.row); /* a sink of 1 block, a window that touches 32 */
}

static void expect_lines(const struct gpu_bench *bench, bool flexprefill, bool dense)
{
    const struct tamis_pattern_lines_args *lines = &find_seen("pattern_lines")->args.lines;
    const struct tamis_pattern_heads_args *heads = &find_seen("pattern_heads")->args.heads;
    const struct tamis_pattern_pairs_args *pairs = &find_seen("pattern_lists")->args.pairs;
    expect_grid("pattern_stats", CHUNKS, HEADS, 1);
    expect_grid("pattern_merge", HEADS, 1, 1);
    expect_grid("pattern_lines", CHUNKS, HEADS, 1);
    expect_grid("pattern_heads", HEADS, 1, 1);
    expect_grid("pattern_lists", (TILES + 6) / 7, HEADS, 1);
    expect_source(&lines->source, dense);
    expect_source(&heads->source, dense);
    child_expect(lines->chunks == CHUNKS && lines->chunk_keys == 512, "%d chunks of %lld keys", lines->chunks,
                 lines->chunk_keys);
    child_expect(lines->last_queries == (flexprefill ? 128 : 64), "%d queries", lines->last_queries);
    child_expect(lines->dense_rows == (flexprefill ? 1024 : 0) && heads->dense_rows == lines->dense_rows,
                 "other dense sequences");
    child_expect(heads->least == (flexprefill ? 8 : 1) && heads->most == TILES && heads->words == 5, "other bounds");
    child_expect(heads->coverage == (flexprefill ? 0.95 : 0.0) && (heads->mean_k != NULL) == flexprefill, "another pattern");
    child_expect(heads->vertical == lines->vertical && heads->slash == lines->slash && pairs->chosen == heads->chosen &&
                     pairs->modes == heads->modes,
                 "kernels look at different places");
    const struct range ranges[] = {
        {"partial", (const char *)lines->partial, (size_t)HEADS * CHUNKS * 128 * 2 * sizeof(float)},
        {"lse2", (const char *)lines->lse2, HEADS * 128 * sizeof(float)},
        {"vertical", (const char *)lines->vertical, (size_t)HEADS * LENGTH * sizeof(float)},
        {"slash", (const char *)lines->slash, (size_t)HEADS * LENGTH * sizeof(unsigned long long)},
        {"sums", (const char *)heads->sums, HEADS * 3 * TILES * sizeof(float)},
        {"chosen", (const char *)heads->chosen, HEADS * 2 * 5 * sizeof(unsigned)},
        {"modes", (const char *)heads->modes, HEADS * sizeof(int)},
        {"cut", (const char *)pairs->cut, HEADS * 2 * sizeof(unsigned)},
        {"ties", (const char *)pairs->ties_before, HEADS * TILES * sizeof(int)},
        {"list", (const char *)pairs->lists.list, (size_t)HEADS * TILES * TILES * sizeof(int)}};
    expect_apart(bench, ranges, 10);
}

static void expect_means(const struct gpu_bench *bench, bool flexprefill, bool dense)
{
    const struct tamis_pattern_means_args *means = &find_seen("pattern_means")->args.means;
    const struct tamis_pattern_products_args *products = &find_seen("pattern_products")->args.products;
    const int heads_k = dense ? KV_HEADS : HEADS, side = (TILES + 47) / 48;
    expect_grid("pattern_means", TILES, (unsigned)(HEADS + heads_k), 1);
    expect_grid("pattern_products", (unsigned)(side * side), HEADS, 1);
    expect_source(&means->source, dense);
    child_expect(products->mean_q == means->mean_q && products->mean_k == means->mean_k, "products of other means");
    child_expect((products->modes != NULL) == flexprefill, "products of other heads");
    child_expect(products->compact_heads == heads_k && products->lists.row == TILES, "products of another problem");
    const struct range ranges[] = {{"mean q", (const char *)means->mean_q, (size_t)HEADS * TILES * 128 * sizeof(float)},
                                   {"mean k", (const char *)means->mean_k, (size_t)heads_k * TILES * 128 * sizeof(float)},
                                   {"list", (const char *)products->lists.list, (size_t)HEADS * TILES * TILES * sizeof(int)}};
    expect_apart(bench, ranges, 3);
}

/* Of groups of 16 rows; the box is of one row each of so many groups. */
static void expect_strided_map(const struct tamis_tensor_map *map, const void *data, int heads, unsigned box)
{
    struct fake_cuda_map made;
    memcpy(&made, map, sizeof made);
    const unsigned long long head_bytes = LENGTH * 256ull;
    child_expect(made.mark == FAKE_CUDA_MAP && made.rank == 5 && made.swizzle == 3, "no map of groups of rows");
    child_expect(!data || made.address == data, "a map of another tensor");
    child_expect(made.sizes[0] == 128 && made.sizes[1] == 16 && made.sizes[2] == LENGTH / 16 &&
                     made.sizes[3] == (unsigned long long)heads && made.sizes[4] == 1,
                 "a map of another size");
    child_expect(made.strides[0] == 256 && made.strides[1] == 16 * 256 && made.strides[2] == head_bytes, "rows lie elsewhere");
    child_expect(made.box[0] == 64 && made.box[1] == 1 && made.box[2] == box && made.box[3] == 1 && made.box[4] == 1,
                 "boxes of another size");
}

static void expect_xattention(const struct gpu_bench *bench, bool tma, bool dense)
{
    const struct seen *one = find_seen(tma ? "pattern_xattn_tma" : "pattern_xattn");
    const struct tamis_pattern_xattn_args *args = tma ? &one->args.xattn_tma.xattn : &one->args.xattn;
    const struct tamis_pattern_choose_args *choose = &find_seen("pattern_choose")->args.choose;
    /* There is scratch for 5 times 256 rows of 32 heads, but at most 256 an SM of 132: of two blocks, or of one. */
    const unsigned slots = tma ? 132 : 264, rows = tma ? 160 : 128;
    expect_grid(one->stage, slots, 1, 1);
    child_expect(one->cluster == (tma ? 2 : 1), "clusters of %u", one->cluster);
    expect_source(&args->source, dense);
    child_expect(args->stride == 16 && choose->threshold == 0.9 && choose->lists.list == args->lists.list, "another pattern");
    if (tma) {
        const struct tamis_pattern_xattn_tma_args *maps = &one->args.xattn_tma;
        if (dense) expect_strided_map(&maps->q, AT(AT_Q), HEADS, 160);
        expect_strided_map(&maps->k, args->source.k.data, dense ? KV_HEADS : HEADS, 112);
        if (!dense) expect_strided_map(&maps->k_full, AT(AT_K), KV_HEADS, 112);
    }
    const struct range ranges[] = {{"scratch", (const char *)args->scratch, (size_t)slots * rows * TILES * sizeof(float)},
                                   {"list", (const char *)args->lists.list, (size_t)HEADS * TILES * TILES * sizeof(int)}};
    expect_apart(bench, ranges, 2);
}

static void expect_kind(const struct gpu_bench *bench, tamis_pattern_kind kind, bool tma, bool dense)
{
    const bool flexprefill = kind == TAMIS_PATTERN_FLEXPREFILL;
    if (kind == TAMIS_PATTERN_SLIDING) expect_sliding(bench);
    if (kind == TAMIS_PATTERN_VERTICAL_SLASH || flexprefill) expect_lines(bench, flexprefill, dense);
    if (kind == TAMIS_PATTERN_TOPK_BLOCKS || flexprefill) expect_means(bench, flexprefill, dense);
    if (kind == TAMIS_PATTERN_XATTENTION) expect_xattention(bench, tma, dense);
    if (kind == TAMIS_PATTERN_TOPK_BLOCKS) {
        const struct tamis_pattern_choose_args *choose = &find_seen("pattern_choose")->args.choose;
        expect_grid("pattern_choose", TILES, HEADS, 1);
        child_expect(choose->threshold == 0 && choose->blocks == 0 && choose->ratio == 0.1, "another choice");
    }
}

static void expect_launches(const char *wanted)
{
    char all[600] = "";
    for (int i = 0; i < seen.count; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s ", seen.list[i].stage);
    child_expect(strcmp(all, wanted) == 0, "launched \"%s\" instead of \"%s\"", all, wanted);
}

/* Where the store has kernels that read by the tensor copy engine, or not. */
static const char *makers_of(const struct kind_case *one, bool tma)
{
    return tma && one->kind == TAMIS_PATTERN_XATTENTION ? "pattern_xattn_tma pattern_choose " : one->makers;
}

static void expect_run(const struct kind_case *one, bool tma)
{
    for (int dense = 0; dense < 2; dense++) {
        struct gpu_bench bench;
        char wanted[600];
        const tamis_problem problem = make_problem(dense);
        tamis_run_args args = TAMIS_RUN_ARGS_INIT;
        args.q = tensor_at(AT_Q, &problem, HEADS);
        args.k = tensor_at(AT_K, &problem, KV_HEADS);
        args.v = tensor_at(AT_V, &problem, KV_HEADS);
        args.output = tensor_at(AT_OUTPUT, &problem, HEADS);
        open_plan(&bench, one->kind, dense);
        bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench.plan), NULL), "run");
        expect_kind(&bench, one->kind, tma, dense);
        snprintf(wanted, sizeof wanted, "%s%s%s",
                 dense ? ""
                 : tma ? "score_stats_tma score_merge score_sum_tma select_pool select_budget select_tokens compress "
                       : "score_stats score_merge score_sum select_pool select_budget select_tokens compress ",
                 makers_of(one, tma),
                 tma     ? "blocks_order attend_blocks_tma "
                 : dense ? "attend_blocks "
                         : "attend_blocks decompress ");
        expect_launches(wanted);
        bench_close(&bench);
        bench_expect_closed(&bench);
    }
}

static void expect_run_tma(const void *argument) { expect_run(argument, true); }
static void expect_run_portable(const void *argument) { expect_run(argument, false); }

START_TEST(runs)
{
    gpu_plan_make_store(&(struct store_plan){.tma = true, .patterns = true});
    child_run(expect_run_tma, &kinds[_i]);
}
END_TEST

START_TEST(runs_portable)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true});
    child_run(expect_run_portable, &kinds[_i]);
}
END_TEST

/* The step: compact rows, and lists of the caller's. */
static void expect_step(const void *argument)
{
    const struct kind_case *one = argument;
    const tamis_problem problem = make_problem(false);
    const tamis_tensor q = tensor_at(AT_Q, &problem, HEADS), k = tensor_at(AT_K, &problem, HEADS);
    struct gpu_bench bench;
    open_plan(&bench, one->kind, false);
    bench_must(tamis_make_blocks(bench.plan, &q, &k, AT(AT_KEPT), NULL, AT(AT_COUNT), AT(AT_LIST), AT(AT_WORKSPACE),
                                 tamis_plan_workspace_bytes(bench.plan), NULL),
               "make_blocks");
    expect_launches(one->makers);
    const struct tamis_block_lists *lists = &seen.list[seen.count - 1].args.pairs.lists; /* first in all that write them */
    child_expect(lists->count == AT(AT_COUNT) && lists->list == AT(AT_LIST) && lists->row == TILES, "lists go elsewhere");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(steps)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true});
    child_run(expect_step, &kinds[_i]);
}
END_TEST

/* From one token to the longest sequence and the largest batch: grids that a GPU takes, of as many blocks as there are. */
static void expect_extremes(const void *argument)
{
    static const struct {
        long long seq_len;
        int batch;
    } shapes[] = {{1, 1}, {129, 8191}, {1 << 20, 8}, {1 << 24, 1}};
    const struct kind_case *one = argument;
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof *shapes; i++) {
        struct gpu_bench bench;
        tamis_problem problem = make_problem(i % 2);
        tamis_pattern pattern = TAMIS_PATTERN_INIT;
        tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
        tamis_run_args args = TAMIS_RUN_ARGS_INIT;
        problem.seq_len = shapes[i / 2].seq_len;
        problem.batch = shapes[i / 2].batch;
        pattern.kind = one->kind;
        options.pattern = &pattern;
        args.q = tensor_at(AT_Q, &problem, HEADS), args.output = tensor_at(AT_OUTPUT, &problem, HEADS);
        args.k = tensor_at(AT_K, &problem, KV_HEADS), args.v = tensor_at(AT_V, &problem, KV_HEADS);
        bench_environment(NULL);
        bench_open(&bench);
        bench_must(tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options), "plan");
        seen.count = 0;
        bench.watch(note_launch, NULL);
        bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench.plan), NULL), "run");
        child_expect(seen.count >= 2, "%d launches", seen.count);
        bench_close(&bench);
        bench_expect_closed(&bench);
    }
}

START_TEST(extremes)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true, .tma = _i >= KINDS});
    child_run(expect_extremes, &kinds[_i % KINDS]);
}
END_TEST

/* A sink and a window of more tokens than there are: kernels are told of no more than fill the blocks, and cannot overflow. */
static void expect_long_window(const void *argument)
{
    const tamis_problem problem = make_problem(true);
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    struct gpu_bench bench;
    (void)argument;
    pattern.kind = TAMIS_PATTERN_SLIDING;
    pattern.sliding.sink_tokens = pattern.sliding.window_tokens = INT64_MAX;
    options.pattern = &pattern;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options), "plan");
    seen.count = 0;
    bench.watch(note_launch, NULL);
    bench_must(tamis_make_blocks(bench.plan, NULL, NULL, AT(AT_KEPT), NULL, AT(AT_COUNT), AT(AT_LIST), AT(AT_WORKSPACE),
                                 tamis_plan_workspace_bytes(bench.plan), NULL),
               "make_blocks");
    const struct tamis_pattern_sliding_args *args = &find_seen("pattern_sliding")->args.sliding;
    child_expect(args->sink_tokens == TILES * 128 && args->window_tokens == TILES * 128, "a sink of %lld, a window of %lld",
                 args->sink_tokens, args->window_tokens);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(long_window)
{
    gpu_plan_make_store(&(struct store_plan){.patterns = true});
    child_run(expect_long_window, NULL);
}
END_TEST

/* ---- what a store must have */

struct missing {
    struct store_plan store;
    tamis_pattern_kind kind;
    const char *words; /* NULL: the plan is made all the same */
};

static void expect_missing(const void *argument)
{
    const struct missing *missing = argument;
    const tamis_problem problem = make_problem(true);
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    struct gpu_bench bench;
    pattern.kind = missing->kind;
    options.pattern = &pattern;
    bench_environment(NULL);
    bench_open(&bench);
    const tamis_status status = tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options);
    if (missing->words)
        child_expect(status != TAMIS_OK && !bench.plan && strstr(tamis_last_error(), missing->words), "%s: %s",
                     tamis_status_name(status), tamis_last_error());
    else
        bench_must(status, "a plan that does not need it");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(missing_kernels)
{
    static const struct missing cases[] = {
        {{.patterns = true, .drop_stage = "pattern_cut"}, TAMIS_PATTERN_FLEXPREFILL, "no kernel serves pattern_cut"},
        {{.patterns = true, .drop_stage = "pattern_cut"}, TAMIS_PATTERN_XATTENTION, NULL},
        {{.patterns = true, .drop_stage = "pattern_choose"}, TAMIS_PATTERN_XATTENTION, "no kernel serves pattern_choose"},
        {{.patterns = true, .drop_stage = "pattern_sliding"}, TAMIS_PATTERN_VERTICAL_SLASH, NULL},
        {{.patterns = true, .bad_cubin = "pattern_xattn"}, TAMIS_PATTERN_XATTENTION, "pattern_xattn"},
        {{.patterns = true, .bad_cubin = "pattern_xattn"}, TAMIS_PATTERN_TOPK_BLOCKS, NULL},
        {{.patterns = false}, TAMIS_PATTERN_SLIDING, "no blocks kernel for head_dim 128"}};
    gpu_plan_make_store(&cases[_i].store);
    child_run(expect_missing, &cases[_i]);
}
END_TEST

TCase *gpu_patterns_case(void)
{
    TCase *patterns = tcase_create("patterns");
    tcase_add_checked_fixture(patterns, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(patterns, runs, 0, KINDS);
    tcase_add_loop_test(patterns, runs_portable, 0, KINDS);
    tcase_add_loop_test(patterns, steps, 0, KINDS);
    tcase_add_loop_test(patterns, extremes, 0, 2 * KINDS);
    tcase_add_test(patterns, long_window);
    tcase_add_loop_test(patterns, missing_kernels, 0, 7);
    return patterns;
}
