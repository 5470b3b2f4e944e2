/*
 * check_gpu_blocks.c: plans with a block pattern on the fake GPU: what is loaded for one and what a store must have for that,
 * and what tamis_run and the steps launch for each form of a host's blocks, with what lists, order, grid and maps. Part of the
 * gpu_plan suite.
 */
#define _XOPEN_SOURCE 700

#include "gpu_plan_case.h"

#include <stdint.h>

#define LAUNCHES_MAX 16
#define AT(number) ((void *)(uintptr_t)((unsigned long long)(number) << 44))
enum { AT_Q = 1, AT_K, AT_V, AT_OUTPUT, AT_KEPT, AT_COUNT, AT_LIST, AT_BITS, AT_OFFSETS, AT_COLUMNS, AT_MASKS, AT_WORKSPACE };
enum { LENGTH = 20000, TILES = (LENGTH + 127) / 128, HEADS = 32, COLUMNS = 12345 };

struct seen {
    char stage[32];
    unsigned grid[3];
    union {
        struct tamis_blocks_bits_args bits;
        struct tamis_blocks_rows_args rows;
        struct tamis_blocks_order_args order;
        struct tamis_attend_blocks_args attend;
        struct tamis_attend_blocks_tma_args attend_tma;
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
    } sizes[] = {{"blocks_bits", sizeof(struct tamis_blocks_bits_args)},
                 {"blocks_rows", sizeof(struct tamis_blocks_rows_args)},
                 {"blocks_order", sizeof(struct tamis_blocks_order_args)},
                 {"attend_blocks", sizeof(struct tamis_attend_blocks_args)},
                 {"attend_blocks_tma", sizeof(struct tamis_attend_blocks_tma_args)}};
    (void)payload;
    child_expect(seen.count < LAUNCHES_MAX, "more than %d launches", LAUNCHES_MAX);
    struct seen *one = &seen.list[seen.count++];
    memset(one, 0, sizeof *one);
    memcpy(one->grid, launch->grid, sizeof one->grid);
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

static void expect_launches(const char *stages, const char *what)
{
    char all[512] = "";
    for (int i = 0; i < seen.count; i++) snprintf(all + strlen(all), sizeof all - strlen(all), "%s ", seen.list[i].stage);
    child_expect(strcmp(all, stages) == 0, "%s: launched \"%s\" instead of \"%s\"", what, all, stages);
    seen.count = 0;
}

static const struct seen *last_seen(const char *stage)
{
    for (int i = seen.count - 1; i >= 0; i--)
        if (strcmp(seen.list[i].stage, stage) == 0) return &seen.list[i];
    child_expect(false, "%s was not launched", stage);
    return NULL;
}

/* ---- plans */

static tamis_plan_options options_of(const tamis_pattern *pattern)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    options.pattern = pattern;
    return options;
}

static tamis_pattern host_pattern(tamis_blocks_form form)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = TAMIS_PATTERN_HOST_BLOCKS;
    pattern.host_blocks.form = form;
    return pattern;
}

static tamis_problem blocks_problem(bool dense)
{
    tamis_problem problem = bench_problem(LENGTH);
    problem.selection.policy = dense ? TAMIS_DENSE : TAMIS_COVERAGE;
    return problem;
}

static void open_blocks(struct gpu_bench *bench, tamis_blocks_form form, bool dense)
{
    const tamis_problem problem = blocks_problem(dense);
    const tamis_pattern pattern = host_pattern(form);
    const tamis_plan_options options = options_of(&pattern);
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

static tamis_run_args run_args(const tamis_problem *problem, const tamis_blocks *blocks)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = tensor_at(AT_Q, problem, problem->q_heads);
    args.k = tensor_at(AT_K, problem, problem->kv_heads);
    args.v = tensor_at(AT_V, problem, problem->kv_heads);
    args.output = tensor_at(AT_OUTPUT, problem, problem->q_heads);
    args.blocks = blocks;
    return args;
}

static tamis_blocks blocks_of(tamis_blocks_form form)
{
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    if (form == TAMIS_BLOCKS_BITS) {
        blocks.bits = AT(AT_BITS);
        return blocks;
    }
    blocks.mask_count = 9;
    blocks.masks = AT(AT_MASKS);
    if (form == TAMIS_BLOCKS_LISTS) {
        blocks.count = AT(AT_COUNT);
        blocks.list = AT(AT_LIST);
        return blocks;
    }
    blocks.offsets = AT(AT_OFFSETS);
    blocks.columns = AT(AT_COLUMNS);
    blocks.column_count = COLUMNS;
    return blocks;
}

/* ---- launches */

static bool tma; /* the store's kernels are the _tma ones */

/* Lists lie where the host has them, or in the workspace, apart from each other and inside of it. */
static void expect_lists(const struct gpu_bench *bench, const struct tamis_block_lists *lists, tamis_blocks_form form)
{
    const char *workspace = AT(AT_WORKSPACE), *count = (const char *)lists->count, *list = (const char *)lists->list;
    const size_t bytes = tamis_plan_workspace_bytes(bench->plan), entry = sizeof(int32_t);
    child_expect(lists->tiles == TILES && lists->row == TILES, "%d tiles, rows of %d", lists->tiles, lists->row);
    child_expect(lists->mask_count == (form == TAMIS_BLOCKS_BITS ? 0 : 9), "%d masks", lists->mask_count);
    child_expect(lists->masks == (form == TAMIS_BLOCKS_BITS ? NULL : AT(AT_MASKS)), "other masks");
    if (form == TAMIS_BLOCKS_LISTS) {
        child_expect(count == AT(AT_COUNT) && list == AT(AT_LIST), "other lists than the host's");
        return;
    }
    child_expect(count >= workspace && count + HEADS * TILES * entry <= list, "counts and lists meet");
    child_expect(list + (size_t)HEADS * TILES * TILES * entry <= workspace + bytes, "lists pass the workspace's end");
}

static void expect_makers(const struct gpu_bench *bench, tamis_blocks_form form)
{
    if (form == TAMIS_BLOCKS_LISTS) return;
    const struct seen *one = last_seen(form == TAMIS_BLOCKS_BITS ? "blocks_bits" : "blocks_rows");
    const unsigned warps = form == TAMIS_BLOCKS_BITS ? 3 : 5, wanted[3] = {(TILES + warps - 1) / warps, HEADS, 1};
    child_expect(memcmp(one->grid, wanted, sizeof wanted) == 0, "grid %u %u %u", one->grid[0], one->grid[1], one->grid[2]);
    if (form == TAMIS_BLOCKS_BITS) {
        const struct tamis_blocks_bits_args *args = &one->args.bits;
        child_expect(args->bits == AT(AT_BITS) && args->words == (TILES + 31) / 32 && args->q_heads == HEADS, "other bits");
        expect_lists(bench, &args->lists, form);
    } else {
        const struct tamis_blocks_rows_args *args = &one->args.rows;
        child_expect((const void *)args->offsets == AT(AT_OFFSETS) && args->columns == AT(AT_COLUMNS) &&
                         args->column_count == COLUMNS && args->q_heads == HEADS,
                     "other rows");
        expect_lists(bench, &args->lists, form);
    }
}

static void expect_attention(const struct gpu_bench *bench, tamis_blocks_form form, const int *kept)
{
    const struct seen *one = last_seen(tma ? "attend_blocks_tma" : "attend_blocks");
    const struct tamis_attend_args *attend = tma ? &one->args.attend_tma.attend : &one->args.attend.attend;
    const struct tamis_block_lists *lists = tma ? &one->args.attend_tma.blocks : &one->args.attend.blocks;
    const unsigned wanted[2][3] = {{TILES, HEADS, 1}, {132, 1, 1}};
    child_expect(memcmp(one->grid, wanted[tma], sizeof wanted[tma]) == 0, "grid %u %u %u", one->grid[0], one->grid[1],
                 one->grid[2]);
    child_expect(attend->seq_len == LENGTH && attend->capacity == LENGTH && attend->q_heads == HEADS && attend->causal == 1,
                 "another problem");
    expect_lists(bench, lists, form);
    if (!tma) return;

    /* The order is of these counts, in the workspace behind all else, and its kernel clears the counter. */
    const struct seen *order = last_seen("blocks_order");
    const struct tamis_blocks_order_args *sorted = &order->args.order;
    const struct tamis_attend_blocks_tma_args *args = &one->args.attend_tma;
    const char *end = (const char *)AT(AT_WORKSPACE) + tamis_plan_workspace_bytes(bench->plan);
    child_expect(sorted->count == lists->count && sorted->order == args->order && sorted->counter == args->counter,
                 "the order of other lists");
    child_expect(sorted->kept == kept && attend->kept == kept, "other counts of kept tokens");
    child_expect(sorted->tiles == TILES && sorted->heads == HEADS && sorted->q_heads == HEADS && sorted->seq_len == LENGTH,
                 "the order of another problem");
    child_expect((const char *)(args->order + HEADS * TILES) <= end, "the order passes the workspace's end");
    const int shared = HEADS / attend->compact_heads; /* heads that read the same K and V stay together */
    child_expect(sorted->section_heads > 0 && sorted->section_heads % shared == 0 && sorted->section_heads <= HEADS,
                 "sections of %d heads", sorted->section_heads);
    child_expect(order->grid[0] == (unsigned)((HEADS + sorted->section_heads - 1) / sorted->section_heads),
                 "%u sections of %d heads", order->grid[0], sorted->section_heads);
}

static const char *attend_stages(void) { return tma ? "blocks_order attend_blocks_tma " : "attend_blocks "; }

static void expect_run(const void *argument)
{
    const tamis_blocks_form form = *(const tamis_blocks_form *)argument;
    static const char *const makers[] = {"", "blocks_bits ", "blocks_rows "};
    for (int dense = 0; dense < 2; dense++) {
        struct gpu_bench bench;
        char wanted[256];
        const tamis_problem problem = blocks_problem(dense);
        const tamis_blocks blocks = blocks_of(form);
        const tamis_run_args args = run_args(&problem, &blocks);
        open_blocks(&bench, form, dense);
        child_expect(tamis_plan_block_count(bench.plan) == TILES, "%d blocks", tamis_plan_block_count(bench.plan));
        bench_must(tamis_run(bench.plan, &args, AT(AT_WORKSPACE), tamis_plan_workspace_bytes(bench.plan), NULL), "run");
        const int *kept = dense ? NULL
                                : (const int *)((const char *)AT(AT_WORKSPACE) + bench.plan->workspace.kept);
        expect_makers(&bench, form);
        expect_attention(&bench, form, kept);
        snprintf(wanted, sizeof wanted, "%s%s%s%s",
                 dense ? ""
                 : tma ? "score_stats_tma score_merge score_sum_tma select_pool select_budget select_tokens compress "
                       : "score_stats score_merge score_sum select_pool select_budget select_tokens compress ",
                 makers[form], attend_stages(), dense || tma ? "" : "decompress ");
        expect_launches(wanted, "run");
        bench_close(&bench);
        bench_expect_closed(&bench);
    }
}

START_TEST(runs)
{
    const tamis_blocks_form form = (tamis_blocks_form)(_i / 2);
    tma = _i % 2 == 1;
    gpu_plan_make_store(&(struct store_plan){.tma = tma, .patterns = true});
    child_run(expect_run, &form);
}
END_TEST

static void expect_steps(const void *argument)
{
    const tamis_problem problem = blocks_problem(false);
    const tamis_tensor q = tensor_at(AT_Q, &problem, HEADS), k = tensor_at(AT_K, &problem, HEADS);
    const tamis_tensor v = tensor_at(AT_V, &problem, HEADS), output = tensor_at(AT_OUTPUT, &problem, HEADS);
    const tamis_blocks rows = blocks_of(TAMIS_BLOCKS_ROWS), lists = blocks_of(TAMIS_BLOCKS_LISTS);
    struct gpu_bench bench;
    (void)argument;
    open_blocks(&bench, TAMIS_BLOCKS_ROWS, false);
    const size_t bytes = tamis_plan_workspace_bytes(bench.plan);
    bench_must(tamis_make_blocks(bench.plan, NULL, NULL, AT(AT_KEPT), &rows, AT(AT_COUNT), AT(AT_LIST), AT(AT_WORKSPACE), bytes,
                                 NULL),
               "make_blocks");
    const struct tamis_block_lists *made = &last_seen("blocks_rows")->args.rows.lists;
    child_expect(made->count == AT(AT_COUNT) && made->list == AT(AT_LIST) && made->row == TILES, "lists go elsewhere");
    expect_launches("blocks_rows ", "make_blocks");
    bench_must(tamis_attend_blocks(bench.plan, &q, &k, &v, AT(AT_KEPT), &lists, &output, NULL, AT(AT_WORKSPACE), bytes, NULL),
               "attend_blocks");
    expect_attention(&bench, TAMIS_BLOCKS_LISTS, AT(AT_KEPT));
    expect_launches(attend_stages(), "attend_blocks");
    const tamis_status status =
        tamis_attend(bench.plan, &q, &k, &v, AT(AT_KEPT), &output, NULL, AT(AT_WORKSPACE), bytes, NULL);
    child_expect(status == TAMIS_EINVAL && strstr(tamis_last_error(), "its step is tamis_attend_blocks"), "attend: %s",
                 tamis_last_error());
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(steps)
{
    tma = _i == 1;
    gpu_plan_make_store(&(struct store_plan){.tma = tma, .patterns = true});
    child_run(expect_steps, NULL);
}
END_TEST

/* ---- what a store must have */

static void expect_missing(const void *argument)
{
    const char *words = argument;
    const tamis_problem problem = blocks_problem(true);
    const tamis_pattern pattern = host_pattern(TAMIS_BLOCKS_BITS);
    const tamis_plan_options options = options_of(&pattern);
    struct gpu_bench bench;
    bench_environment(NULL);
    bench_open(&bench);
    bench_must(tamis_plan_create(&bench.plan, bench.context, bench.store, &problem), "a plan without a pattern");
    tamis_plan_free(bench.plan);
    const tamis_status status = tamis_plan_create_with(&bench.plan, bench.context, bench.store, &problem, &options);
    child_expect(status != TAMIS_OK && !bench.plan && strstr(tamis_last_error(), words), "%s: %s", tamis_status_name(status),
                 tamis_last_error());
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(missing_kernels)
{
    static const struct {
        struct store_plan store;
        const char *words;
    } cases[] = {{{.patterns = false}, "no blocks kernel for head_dim 128"},
                 {{.patterns = true, .drop_stage = "blocks_rows"}, "no kernel serves blocks_rows"},
                 {{.patterns = true, .bad_cubin = "attend_blocks"}, "attend_blocks"}};
    gpu_plan_make_store(&cases[_i].store);
    child_run(expect_missing, cases[_i].words);
}
END_TEST

TCase *gpu_blocks_case(void)
{
    TCase *blocks = tcase_create("blocks");
    tcase_add_checked_fixture(blocks, gpu_plan_set_up, folder_remove);
    tcase_add_loop_test(blocks, runs, 0, 6);
    tcase_add_loop_test(blocks, steps, 0, 2);
    tcase_add_loop_test(blocks, missing_kernels, 0, 3);
    return blocks;
}
