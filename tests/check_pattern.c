/*
 * check_pattern.c: the makers of block patterns on the CPU backend, through the public interface: against brute force, on
 * inputs made by hand, and against what the public Python codes chose (tests/patterns).
 */
#include "cpu_case.h"
#include "half.h"
#include "npy.h"
#include "pattern_case.h"
#include "plan.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *pattern_suite(void);

/* ------------------------------------------------------------------------------------------------------ one problem */

struct bench {
    tamis_context *context;
    tamis_plan *plan;
    void *workspace;
    size_t workspace_bytes;
    uint16_t *q, *k;
    int32_t *count, *list;
    struct pattern_case c;
};

#define OK(call)                                                                                                           \
    do {                                                                                                                   \
        const tamis_status status_ = (call);                                                                               \
        if (status_ != TAMIS_OK) ck_abort_msg("%s: %s", tamis_status_name(status_), tamis_last_error());                  \
    } while (0)

static tamis_tensor tensor(uint16_t *data, int heads, long long rows, int dim)
{
    return (tamis_tensor){data, heads * rows * dim, rows * dim, dim};
}

/* A plan on the CPU, and memory for inputs, which are left to the caller, and lists. */
static void bench_open(struct bench *bench, const tamis_pattern *pattern, int batch, int q_heads, int kv_heads, int dim,
                       long long rows)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_plan_options plan_options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    const size_t row = (size_t)dim * sizeof *bench->q;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    problem.batch = batch;
    problem.q_heads = q_heads;
    problem.kv_heads = kv_heads;
    problem.head_dim = dim;
    problem.seq_len = rows;
    problem.selection.scope = TAMIS_SCOPE_KV_GROUP; /* the step's K has the KV heads */
    plan_options.pattern = pattern;
    *bench = (struct bench){.context = NULL};
    OK(tamis_context_create(&bench->context, &options));
    OK(tamis_plan_create_with(&bench->plan, bench->context, NULL, &problem, &plan_options));
    bench->c = (struct pattern_case){.pattern = pattern,
                                     .batch = batch,
                                     .q_heads = q_heads,
                                     .kv_heads = kv_heads,
                                     .head_dim = dim,
                                     .capacity = rows,
                                     .dtype = problem.dtype,
                                     .scale = 1 / sqrt((double)dim)};
    const size_t lists = (size_t)(batch * q_heads * pattern_tiles(&bench->c));
    bench->workspace_bytes = tamis_plan_workspace_bytes(bench->plan);
    bench->workspace = guarded_alloc(bench->workspace_bytes);
    bench->q = guarded_alloc((size_t)(batch * q_heads * rows) * row);
    bench->k = guarded_alloc((size_t)(batch * kv_heads * rows) * row);
    bench->count = guarded_alloc(lists * sizeof *bench->count);
    bench->list = guarded_alloc(lists * (size_t)pattern_tiles(&bench->c) * sizeof *bench->list);
    bench->c.q = bench->q;
    bench->c.k = bench->k;
}

static void bench_fill(struct bench *bench, enum pattern_input input)
{
    const struct pattern_case *c = &bench->c;
    for (int b = 0; b < c->batch; b++) {
        pattern_fill(bench->q + b * c->q_heads * c->capacity * c->head_dim, input, true, b, c->q_heads, c->capacity,
                     c->head_dim, c->dtype);
        pattern_fill(bench->k + b * c->kv_heads * c->capacity * c->head_dim, input, false, b, c->kv_heads, c->capacity,
                     c->head_dim, c->dtype);
    }
}

/* `kept`: rows of each sequence, or NULL for all. */
static void bench_make(struct bench *bench, const int32_t *kept)
{
    const struct pattern_case *c = &bench->c;
    const tamis_tensor q = tensor(bench->q, c->q_heads, c->capacity, c->head_dim);
    const tamis_tensor k = tensor(bench->k, c->kv_heads, c->capacity, c->head_dim);
    int32_t all[8];
    for (int b = 0; b < c->batch; b++) all[b] = (int32_t)c->capacity;
    bench->c.kept = kept;
    OK(tamis_make_blocks(bench->plan, &q, &k, kept ? kept : all, NULL, bench->count, bench->list, bench->workspace,
                         bench->workspace_bytes, NULL));
}

static void bench_close(struct bench *bench)
{
    guarded_free(bench->workspace);
    guarded_free(bench->q);
    guarded_free(bench->k);
    guarded_free(bench->count);
    guarded_free(bench->list);
    tamis_plan_free(bench->plan);
    tamis_context_free(bench->context);
}

/* Lists against brute force. */
static void bench_check(struct bench *bench, double slack, long long most_either, const char *what)
{
    long long either = 0;
    unsigned char *decisions = pattern_brute(&bench->c, slack);
    const char *error = pattern_compare(&bench->c, decisions, bench->count, bench->list, pattern_tiles(&bench->c), &either);
    if (error) ck_abort_msg("%s: %s", what, error);
    if (either > most_either) ck_abort_msg("%s: %lld blocks may be either, too many to tell much", what, either);
    free(decisions);
}

static tamis_pattern pattern_of(tamis_pattern_kind kind)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = kind;
    return pattern;
}

/* Exactly these blocks of query block `i` of head 0. */
static void expect_list(const struct bench *bench, int i, int count, const int *blocks)
{
    const int32_t *list = bench->list + (long long)i * pattern_tiles(&bench->c);
    ck_assert_msg(bench->count[i] == count, "query block %d: %d blocks, not %d", i, bench->count[i], count);
    for (int at = 0; at < count; at++)
        ck_assert_msg(list[at] == blocks[at], "query block %d: entry %d is %d, not %d", i, at, list[at], blocks[at]);
}

/* ---------------------------------------------------------------------------------------------------- brute force */

static const struct {
    int batch, q_heads, kv_heads, dim;
    long long rows;
} shapes[] = {{1, 1, 1, 64, 1500}, {2, 2, 1, 96, 700}, {1, 1, 1, 128, 897}, {1, 2, 1, 64, 300}, {1, 1, 1, 256, 129},
              {1, 1, 1, 64, 128},  {1, 1, 1, 64, 17},   {1, 1, 1, 64, 1}};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

static void check_shape(const tamis_pattern *pattern, int shape, enum pattern_input input, const char *what)
{
    struct bench bench;
    char name[80];
    snprintf(name, sizeof name, "%s, shape %d, input %d", what, shape, (int)input);
    bench_open(&bench, pattern, shapes[shape].batch, shapes[shape].q_heads, shapes[shape].kv_heads, shapes[shape].dim,
               shapes[shape].rows);
    bench_fill(&bench, input);
    bench_make(&bench, NULL);
    bench_check(&bench, 1e-11, 2, name); /* where rows sum to 1, a goal may be met but for rounding */
    if (shapes[shape].rows > 300) {
        const int32_t kept[] = {(int32_t)shapes[shape].rows - 333, (int32_t)shapes[shape].rows};
        bench_make(&bench, kept);
        bench_check(&bench, 1e-11, 2, name);
    }
    bench_close(&bench);
}

/* Under sanitizers one input: the others are other numbers for the same lines. */
static int count_inputs(void)
{
    const char *sanitizers = getenv("TAMIS_SANITIZE");
    return sanitizers && *sanitizers ? 1 : PATTERN_INPUTS;
}

static void check_shapes(const tamis_pattern *pattern, const char *what)
{
    for (int shape = 0; shape < SHAPES; shape++)
        for (int i = 0; i < count_inputs(); i++)
            check_shape(pattern, shape, (enum pattern_input)((shape + i + 1) % PATTERN_INPUTS), what);
}

START_TEST(test_topk_brute)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_TOPK_BLOCKS);
    check_shapes(&pattern, "ratio .1");
    pattern.topk_blocks.ratio = 0.5;
    check_shapes(&pattern, "ratio .5");
    pattern.topk_blocks.blocks = 3;
    check_shapes(&pattern, "3 blocks");
    pattern.topk_blocks.blocks = 1000;
    check_shapes(&pattern, "1000 blocks");
}
END_TEST

START_TEST(test_vertical_slash_brute)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_VERTICAL_SLASH);
    pattern.vertical_slash.vertical_lines = 200;
    pattern.vertical_slash.slash_lines = 300;
    check_shapes(&pattern, "200 and 300 lines");
    pattern.vertical_slash.vertical_lines = pattern.vertical_slash.slash_lines = 0;
    check_shapes(&pattern, "a block each");
    pattern.vertical_slash.last_queries = 128;
    pattern.vertical_slash.coverage = 0.7;
    check_shapes(&pattern, "coverage .7");
    pattern.vertical_slash.last_queries = 1;
    pattern.vertical_slash.coverage = 1;
    check_shapes(&pattern, "coverage 1");
}
END_TEST

START_TEST(test_flexprefill_brute)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_FLEXPREFILL);
    check_shapes(&pattern, "as published");
    pattern.flexprefill.min_tokens = 256;
    check_shapes(&pattern, "256 at least");
    pattern.flexprefill.tau = 1;
    check_shapes(&pattern, "query-aware");
    pattern.flexprefill.gamma = 0.5;
    check_shapes(&pattern, "query-aware, gamma .5");
    pattern.flexprefill.tau = 0;
    pattern.flexprefill.min_tokens = 0;
    pattern.flexprefill.max_tokens = 300;
    check_shapes(&pattern, "300 at most");
}
END_TEST

/* The lists of other bounds. */
static int32_t *bounded_lists(struct bench *bench, long long min_tokens, long long max_tokens)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_FLEXPREFILL);
    pattern.flexprefill.min_tokens = min_tokens;
    pattern.flexprefill.max_tokens = max_tokens;
    bench_open(bench, &pattern, 1, 2, 1, 64, 1500);
    bench_fill(bench, PATTERN_MODEL);
    bench_make(bench, NULL);
    return bench->list;
}

/* Of as many tokens as a number can say there are no more than of a sequence. */
START_TEST(test_flexprefill_bounds)
{
    struct bench free, most, least;
    const size_t bytes = 2 * 12 * 12 * sizeof(int32_t);
    ck_assert_mem_eq(bounded_lists(&free, 128, 0), bounded_lists(&most, 128, INT64_MAX), bytes);
    ck_assert_mem_eq(free.count, most.count, 2 * 12 * sizeof(int32_t));
    bounded_lists(&least, INT64_MAX, 0);
    for (int i = 0; i < 2 * 12; i++) ck_assert_int_eq(least.count[i], i % 12 + 1);
    bench_close(&free);
    bench_close(&most);
    bench_close(&least);
}
END_TEST

START_TEST(test_xattention_brute)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_XATTENTION);
    check_shapes(&pattern, "as published");
    for (int stride = 4; stride <= 64; stride *= 2) {
        pattern.xattention.stride = stride;
        pattern.xattention.threshold = 0.5;
        check_shape(&pattern, 0, PATTERN_MODEL, "strides");
        check_shape(&pattern, 2, PATTERN_BLOCKS, "strides");
    }
}
END_TEST

/* Every token of every query, for windows and sinks about block borders. */
START_TEST(test_sliding_tokens)
{
    static const long long windows[] = {1, 2, 127, 128, 129, 130, 255, 256, 257, 300, 511, 700, 4096, INT64_MAX};
    static const long long sinks[] = {0, 1, 4, 127, 128, 129, 300, 5000, INT64_MAX};
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (size_t s = 0; s < sizeof sinks / sizeof *sinks; s++) {
            tamis_pattern pattern = pattern_of(TAMIS_PATTERN_SLIDING);
            struct bench bench;
            pattern.sliding.window_tokens = windows[w];
            pattern.sliding.sink_tokens = sinks[s];
            bench_open(&bench, &pattern, 1, 1, 1, 64, 777);
            bench_make(&bench, NULL);
            const char *masks = (const char *)bench.workspace + bench.plan->workspace.block_masks;
            const char *error = pattern_compare_sliding(&bench.c, bench.count, bench.list, pattern_tiles(&bench.c),
                                                        (const uint32_t *)(const void *)masks);
            if (error) ck_abort_msg("window %lld, sink %lld: %s", windows[w], sinks[s], error);
            bench_close(&bench);
        }
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- by hand */

/* Every query and key a multiple of the first unit vector: block j's keys of `values[j]`. */
static void fill_steps(struct bench *bench, const double *values)
{
    const struct pattern_case *c = &bench->c;
    memset(bench->q, 0, (size_t)(c->q_heads * c->capacity * c->head_dim) * sizeof *bench->q);
    memset(bench->k, 0, (size_t)(c->kv_heads * c->capacity * c->head_dim) * sizeof *bench->k);
    for (long long i = 0; i < c->q_heads * c->capacity; i++)
        bench->q[i * c->head_dim] = tamisi_half_from_float(1, c->dtype);
    for (long long i = 0; i < c->kv_heads * c->capacity; i++)
        bench->k[i * c->head_dim] = tamisi_half_from_float((float)values[i % c->capacity / 128], c->dtype);
}

/* Equal scores: the lower block; the block itself only where it is among the best. */
START_TEST(test_topk_ties)
{
    static const double values[] = {1, 3, 3, 2, 3, -1};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_TOPK_BLOCKS);
    struct bench bench;
    pattern.topk_blocks.blocks = 2;
    bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128 - 50);
    fill_steps(&bench, values);
    bench_make(&bench, NULL);
    expect_list(&bench, 0, 1, (const int[]){0});
    expect_list(&bench, 1, 2, (const int[]){0, 1});
    for (int i = 2; i < 6; i++) expect_list(&bench, i, 2, (const int[]){1, 2});
    bench_close(&bench);
}
END_TEST

/*
 * Keys of block 2 draw nearly all, so its column is the one vertical block beside the first; with equal keys elsewhere the
 * diagonals of the last queries lead there too.
 */
START_TEST(test_vertical_column)
{
    static const double values[] = {0, 0, 90, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_VERTICAL_SLASH);
    struct bench bench;
    pattern.vertical_slash.vertical_lines = 128; /* 2 blocks */
    pattern.vertical_slash.slash_lines = 0;      /* the main diagonal */
    bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128);
    fill_steps(&bench, values);
    bench_make(&bench, NULL);
    expect_list(&bench, 1, 2, (const int[]){0, 1});
    expect_list(&bench, 2, 2, (const int[]){0, 2});
    expect_list(&bench, 5, 3, (const int[]){0, 2, 5});
    bench_close(&bench);
}
END_TEST

/* Query i is key i - 200 ten times over, of random directions: all attention lies 200 back, in the second diagonal block. */
START_TEST(test_slash_diagonal)
{
    const int dim = 128, back = 200;
    const long long rows = 8 * 128;
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_VERTICAL_SLASH);
    struct bench bench;
    pattern.vertical_slash.coverage = 0.9;
    bench_open(&bench, &pattern, 1, 1, 1, dim, rows);
    bench_fill(&bench, PATTERN_NOISE);
    for (long long i = 0; i < rows * dim; i++) {
        const float key = tamisi_half_to_float(bench.k[i < back * dim ? i : i - back * dim], bench.c.dtype);
        bench.q[i] = tamisi_half_from_float(2 * key, bench.c.dtype);
    }
    bench_make(&bench, NULL);
    bench_check(&bench, 1e-11, 0, "a diagonal");
    /* 2 lines of it, 1 block each: forced to block 0 and the main diagonal; nothing else may be listed. */
    expect_list(&bench, 7, 2, (const int[]){0, 7});
    bench_close(&bench);

    pattern.vertical_slash.coverage = 0;
    pattern.vertical_slash.vertical_lines = 0;
    pattern.vertical_slash.slash_lines = 128;
    bench_open(&bench, &pattern, 1, 1, 1, dim, rows);
    bench_fill(&bench, PATTERN_NOISE);
    for (long long i = 0; i < rows * dim; i++) {
        const float key = tamisi_half_to_float(bench.k[i < back * dim ? i : i - back * dim], bench.c.dtype);
        bench.q[i] = tamisi_half_from_float(2 * key, bench.c.dtype);
    }
    bench_make(&bench, NULL);
    expect_list(&bench, 7, 3, (const int[]){0, 6, 7}); /* distances 128 to 255 are diagonal block 1 */
    bench_close(&bench);
}
END_TEST

/*
 * Blocks of equal keys: means say exactly what is attended to, so the head is query-aware; keys of both signs have means of 0,
 * which say nothing, so it is not.
 */
START_TEST(test_flexprefill_switch)
{
    static const double values[] = {0, 0, 0, 80, 0, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_FLEXPREFILL);
    struct bench bench;
    pattern.flexprefill.min_tokens = 0;
    bench_open(&bench, &pattern, 1, 1, 1, 64, 8 * 128);
    fill_steps(&bench, values);
    bench_make(&bench, NULL);
    bench_check(&bench, 1e-11, 1000, "query-aware");
    /* Query block 0 and those from 3 on give (nearly) 1 to one block; of gamma * 8 = 7.6 the halves of block 1 and the first
       third of block 2 find room, as there are no more than 1.6 left. */
    expect_list(&bench, 1, 2, (const int[]){0, 1});
    expect_list(&bench, 2, 2, (const int[]){0, 2}); /* (2, 0), and the main diagonal */
    expect_list(&bench, 7, 3, (const int[]){0, 3, 7});

    for (long long i = 0; i < 8 * 128; i++) /* a needle in each block: one key of 100, one of -100 */
        bench.k[i * 64] = tamisi_half_from_float(i % 128 == 5 ? 100 : i % 128 == 6 ? -100 : 0, bench.c.dtype);
    bench_make(&bench, NULL);
    bench_check(&bench, 1e-11, 1000, "vertical and slash");
    bench_close(&bench);
}
END_TEST

/* What draws is in block 1 for the last query block, found by its antidiagonal; its own and the first are there anyway. */
START_TEST(test_xattention_needle)
{
    static const double values[] = {0, 120, 0, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_XATTENTION);
    struct bench bench;
    bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128 - 3);
    fill_steps(&bench, values);
    bench_make(&bench, NULL);
    expect_list(&bench, 0, 1, (const int[]){0});
    expect_list(&bench, 1, 2, (const int[]){0, 1});
    for (int i = 2; i < 6; i++) expect_list(&bench, i, 3, (const int[]){0, 1, i});
    bench_close(&bench);
}
END_TEST

/* All alike: of n blocks at threshold t, those below t * n of the sum in all, the first ones. */
START_TEST(test_xattention_ties)
{
    static const double values[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_XATTENTION);
    struct bench bench;
    pattern.xattention.threshold = 0.45;
    bench_open(&bench, &pattern, 1, 1, 1, 64, 10 * 128);
    fill_steps(&bench, values);
    bench_make(&bench, NULL);
    expect_list(&bench, 9, 5, (const int[]){0, 1, 2, 3, 9});
    bench_close(&bench);
}
END_TEST

/* Not a number anywhere, and infinities: any lists, but within bounds and the same each time. */
START_TEST(test_nan)
{
    static const uint16_t bad[] = {0x7fc0, 0x7f80, 0xff80};
    for (int kind = TAMIS_PATTERN_VERTICAL_SLASH; kind <= TAMIS_PATTERN_TOPK_BLOCKS; kind++)
        for (size_t value = 0; value < sizeof bad / sizeof *bad; value++) {
            tamis_pattern pattern = pattern_of((tamis_pattern_kind)kind);
            struct bench bench;
            pattern.flexprefill.min_tokens = 128;
            bench_open(&bench, &pattern, 1, 1, 1, 64, 700);
            bench_fill(&bench, PATTERN_MODEL);
            for (int i = 0; i < 64; i++) bench.q[650 * 64 + i] = bench.k[300 * 64 + i] = bad[value];
            bench_make(&bench, NULL);
            for (int i = 0; i < 6; i++) {
                ck_assert_int_ge(bench.count[i], 0);
                ck_assert_int_le(bench.count[i], i + 1);
                for (int at = 0; at < bench.count[i]; at++) ck_assert_int_le(bench.list[i * 6 + at], i);
            }
            bench_close(&bench);
        }
}
END_TEST

/* -------------------------------------------------------------------------------------------- the public codes */
/*
 * tests/patterns/<name>_<input>.npy: (heads, T, ceil(T / 16)) uint16, block j of a row bit j % 16 of word j / 16. Made
 * with PyTorch 1.12 on a CPU, in float32, of pattern_fill()'s Q and K of batch 1, K repeated for the query heads of a group, by
 *   flexprefill*, vertical_slash  get_active_blocks() of ByteDance-Seed/FlexPrefill, flex_prefill/ops/
 *                                 flex_prefill_attention.py, with means of K by x.mean(1) in place of its Triton kernel;
 *                                 vertical_slash with tau 0
 *   xattention*                   xattn_estimate(use_triton=False) of mit-han-lab/x-attention, in chunks of 512; the first one
 *                                 is not looked at, where block 0 loses its place and the running sum lags by a block
 *   topk                          _build_block_index() of microsoft/MInference, block_sparse_flash_attention.py, blocks of 128
 * without what lies behind the diagonal. Where float32 may have decided, by brute force, either counts. The modules they import
 * and do not call were replaced by empty ones.
 */
static const struct golden {
    const char *name;
    int q_heads, kv_heads, dim;
    long long rows;
    int first; /* query block that is compared */
    tamis_pattern pattern;
} goldens[] = {
    {"flexprefill", 4, 2, 64, 2500, 0, {.kind = TAMIS_PATTERN_FLEXPREFILL, .flexprefill = {0.95, 0.1, 1024, 0}}},
    {"flexprefill_small", 4, 2, 128, 2048, 0, {.kind = TAMIS_PATTERN_FLEXPREFILL, .flexprefill = {0.9, 0.1, 256, 0}}},
    {"flexprefill_gamma", 2, 2, 64, 1500, 0, {.kind = TAMIS_PATTERN_FLEXPREFILL, .flexprefill = {0.6, 0.1, 128, 512}}},
    {"vertical_slash", 4, 2, 64, 2300, 0, {.kind = TAMIS_PATTERN_VERTICAL_SLASH, .vertical_slash = {128, 0, 0, 0.8}}},
    {"xattention16", 4, 2, 64, 2500, 4, {.kind = TAMIS_PATTERN_XATTENTION, .xattention = {16, 0.9}}},
    {"xattention8", 2, 1, 128, 1999, 4, {.kind = TAMIS_PATTERN_XATTENTION, .xattention = {8, 0.7}}},
    {"topk", 4, 2, 64, 2048, 0, {.kind = TAMIS_PATTERN_TOPK_BLOCKS, .topk_blocks = {5, 0}}},
};
#define GOLDENS ((int)(sizeof goldens / sizeof *goldens))

static void check_golden(const struct golden *golden, int input)
{
    char path[1024], name[80];
    struct npy npy;
    struct bench bench;
    tamis_pattern pattern = golden->pattern;
    pattern.struct_size = sizeof pattern;
    snprintf(name, sizeof name, "%s_%d", golden->name, input);
    snprintf(path, sizeof path, "%s/tests/patterns/%s.npy", getenv("TAMIS_SOURCE_DIR"), name);
    OK(npy_read(&npy, path));
    bench_open(&bench, &pattern, 1, golden->q_heads, golden->kv_heads, golden->dim, golden->rows);
    const int tiles = pattern_tiles(&bench.c), words = (tiles + 15) / 16;
    ck_assert_msg(npy.type == NPY_U16 && npy.rank == 3 && npy.shape[0] == golden->q_heads && npy.shape[1] == tiles &&
                  npy.shape[2] == words, "%s: another shape", name);
    bench_fill(&bench, (enum pattern_input)input);
    bench_make(&bench, NULL);
    unsigned char *decisions = pattern_brute(&bench.c, 3e-6);
    for (int row = 0; row < golden->q_heads * tiles; row++)
        for (int j = 0; j < tiles; j++) {
            unsigned char *decision = &decisions[row * tiles + j];
            if (row % tiles < golden->first) *decision = PATTERN_EITHER;
            if (*decision != PATTERN_EITHER) *decision = ((const uint16_t *)npy.data)[row * words + j / 16] >> j % 16 & 1;
        }
    long long either = 0;
    const char *error = pattern_compare(&bench.c, decisions, bench.count, bench.list, tiles, &either);
    if (error) ck_abort_msg("%s: %s", name, error);
    ck_assert_int_le(either, 8 + golden->q_heads * golden->first * (golden->first + 1) / 2);
    free(decisions);
    npy_free(&npy);
    bench_close(&bench);
}

START_TEST(test_golden)
{
    for (int i = 0; i < count_inputs(); i++) check_golden(&goldens[_i], (_i + i) % PATTERN_INPUTS);
}
END_TEST

Suite *pattern_suite(void)
{
    Suite *suite = suite_create("pattern");
    TCase *brute = tcase_create("brute");
    tcase_set_timeout(brute, 240);
    tcase_add_test(brute, test_topk_brute);
    tcase_add_test(brute, test_vertical_slash_brute);
    tcase_add_test(brute, test_flexprefill_brute);
    tcase_add_test(brute, test_flexprefill_bounds);
    tcase_add_test(brute, test_xattention_brute);
    suite_add_tcase(suite, brute);
    TCase *hand = tcase_create("hand");
    tcase_set_timeout(hand, 120);
    tcase_add_test(hand, test_sliding_tokens);
    tcase_add_test(hand, test_topk_ties);
    tcase_add_test(hand, test_vertical_column);
    tcase_add_test(hand, test_slash_diagonal);
    tcase_add_test(hand, test_flexprefill_switch);
    tcase_add_test(hand, test_xattention_needle);
    tcase_add_test(hand, test_xattention_ties);
    tcase_add_test(hand, test_nan);
    suite_add_tcase(suite, hand);
    TCase *public = tcase_create("public");
    tcase_set_timeout(public, 120);
    tcase_add_loop_test(public, test_golden, 0, GOLDENS);
    suite_add_tcase(suite, public);
    return suite;
}
