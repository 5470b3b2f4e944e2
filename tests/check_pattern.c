/*
 * check_pattern.c: the makers of block patterns on the CPU backend, through the public interface: against brute force, and
 * against what the public Python codes chose (tests/patterns). Inputs made by hand are check_pattern_hand.c's.
 */
#include "npy.h"
#include "pattern_bench.h"
#include "plan.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

Suite *pattern_suite(void);
TCase *pattern_hand_case(void);

/* ---------------------------------------------------------------------------------------------------- brute force */

static const struct {
    int batch, q_heads, kv_heads, dim;
    long long rows;
} shapes[] = {{1, 1, 1, 64, 1500}, {2, 2, 1, 96, 700}, {1, 1, 1, 128, 897}, {1, 2, 1, 64, 300}, {1, 1, 1, 256, 129},
              {1, 1, 1, 64, 128},  {1, 1, 1, 64, 17},   {1, 1, 1, 64, 1}};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

static void check_shape(const tamis_pattern *pattern, int shape, enum pattern_input input, const char *what)
{
    struct pattern_bench bench;
    char name[80];
    snprintf(name, sizeof name, "%s, shape %d, input %d", what, shape, (int)input);
    pattern_bench_open(&bench, pattern, shapes[shape].batch, shapes[shape].q_heads, shapes[shape].kv_heads, shapes[shape].dim,
               shapes[shape].rows);
    pattern_bench_fill(&bench, input);
    pattern_bench_make(&bench, NULL);
    pattern_bench_check(&bench, 1e-11, 2, name); /* where rows sum to 1, a goal may be met but for rounding */
    if (shapes[shape].rows > 300) {
        const int32_t kept[] = {(int32_t)shapes[shape].rows - 333, (int32_t)shapes[shape].rows};
        pattern_bench_make(&bench, kept);
        pattern_bench_check(&bench, 1e-11, 2, name);
    }
    pattern_bench_close(&bench);
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
static int32_t *bounded_lists(struct pattern_bench *bench, long long min_tokens, long long max_tokens)
{
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_FLEXPREFILL);
    pattern.flexprefill.min_tokens = min_tokens;
    pattern.flexprefill.max_tokens = max_tokens;
    pattern_bench_open(bench, &pattern, 1, 2, 1, 64, 1500);
    pattern_bench_fill(bench, PATTERN_MODEL);
    pattern_bench_make(bench, NULL);
    return bench->list;
}

/* Of as many tokens as a number can say there are no more than of a sequence. */
START_TEST(test_flexprefill_bounds)
{
    struct pattern_bench free, most, least;
    const size_t bytes = 2 * 12 * 12 * sizeof(int32_t);
    ck_assert_mem_eq(bounded_lists(&free, 128, 0), bounded_lists(&most, 128, INT64_MAX), bytes);
    ck_assert_mem_eq(free.count, most.count, 2 * 12 * sizeof(int32_t));
    bounded_lists(&least, INT64_MAX, 0);
    for (int i = 0; i < 2 * 12; i++) ck_assert_int_eq(least.count[i], i % 12 + 1);
    pattern_bench_close(&free);
    pattern_bench_close(&most);
    pattern_bench_close(&least);
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
            struct pattern_bench bench;
            pattern.sliding.window_tokens = windows[w];
            pattern.sliding.sink_tokens = sinks[s];
            pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 777);
            pattern_bench_make(&bench, NULL);
            const char *masks = (const char *)bench.workspace + bench.plan->workspace.block_masks;
            const char *error = pattern_compare_sliding(&bench.c, bench.count, bench.list, pattern_tiles(&bench.c),
                                                        (const uint32_t *)(const void *)masks);
            if (error) ck_abort_msg("window %lld, sink %lld: %s", windows[w], sinks[s], error);
            pattern_bench_close(&bench);
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
    struct pattern_bench bench;
    tamis_pattern pattern = golden->pattern;
    pattern.struct_size = sizeof pattern;
    snprintf(name, sizeof name, "%s_%d", golden->name, input);
    snprintf(path, sizeof path, "%s/tests/patterns/%s.npy", getenv("TAMIS_SOURCE_DIR"), name);
    ck_assert_msg(npy_read(&npy, path) == TAMIS_OK, "%s", tamis_last_error());
    pattern_bench_open(&bench, &pattern, 1, golden->q_heads, golden->kv_heads, golden->dim, golden->rows);
    const int tiles = pattern_tiles(&bench.c), words = (tiles + 15) / 16;
    ck_assert_msg(npy.type == NPY_U16 && npy.rank == 3 && npy.shape[0] == golden->q_heads && npy.shape[1] == tiles &&
                  npy.shape[2] == words, "%s: another shape", name);
    pattern_bench_fill(&bench, (enum pattern_input)input);
    pattern_bench_make(&bench, NULL);
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
    pattern_bench_close(&bench);
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
    tcase_add_test(brute, test_sliding_tokens);
    suite_add_tcase(suite, brute);
    suite_add_tcase(suite, pattern_hand_case());
    TCase *public = tcase_create("public");
    tcase_set_timeout(public, 120);
    tcase_add_loop_test(public, test_golden, 0, GOLDENS);
    suite_add_tcase(suite, public);
    return suite;
}
