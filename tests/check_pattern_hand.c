/*
 * check_pattern_hand.c: block patterns of inputs made by hand, whose lists can be told without computing, and of numbers that
 * are none.
 */
#include "half.h"
#include "pattern_bench.h"

#include <check.h>
#include <string.h>

TCase *pattern_hand_case(void);

/* Every query and key a multiple of the first unit vector: block j's keys of `values[j]`. */
static void fill_steps(struct pattern_bench *bench, const double *values)
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
    struct pattern_bench bench;
    pattern.topk_blocks.blocks = 2;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128 - 50);
    fill_steps(&bench, values);
    pattern_bench_make(&bench, NULL);
    pattern_bench_expect(&bench, 0, 1, (const int[]){0});
    pattern_bench_expect(&bench, 1, 2, (const int[]){0, 1});
    for (int i = 2; i < 6; i++) pattern_bench_expect(&bench, i, 2, (const int[]){1, 2});
    pattern_bench_close(&bench);
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
    struct pattern_bench bench;
    pattern.vertical_slash.vertical_lines = 128; /* 2 blocks */
    pattern.vertical_slash.slash_lines = 0;      /* the main diagonal */
    pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128);
    fill_steps(&bench, values);
    pattern_bench_make(&bench, NULL);
    pattern_bench_expect(&bench, 1, 2, (const int[]){0, 1});
    pattern_bench_expect(&bench, 2, 2, (const int[]){0, 2});
    pattern_bench_expect(&bench, 5, 3, (const int[]){0, 2, 5});
    pattern_bench_close(&bench);
}
END_TEST

/* Query i is key i - 200 ten times over, of random directions: all attention lies 200 back, in the second diagonal block. */
START_TEST(test_slash_diagonal)
{
    const int dim = 128, back = 200;
    const long long rows = 8 * 128;
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_VERTICAL_SLASH);
    struct pattern_bench bench;
    pattern.vertical_slash.coverage = 0.9;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, dim, rows);
    pattern_bench_fill(&bench, PATTERN_NOISE);
    for (long long i = 0; i < rows * dim; i++) {
        const float key = tamisi_half_to_float(bench.k[i < back * dim ? i : i - back * dim], bench.c.dtype);
        bench.q[i] = tamisi_half_from_float(2 * key, bench.c.dtype);
    }
    pattern_bench_make(&bench, NULL);
    pattern_bench_check(&bench, 1e-11, 0, "a diagonal");
    /* 2 lines of it, 1 block each: forced to block 0 and the main diagonal; nothing else may be listed. */
    pattern_bench_expect(&bench, 7, 2, (const int[]){0, 7});
    pattern_bench_close(&bench);

    pattern.vertical_slash.coverage = 0;
    pattern.vertical_slash.vertical_lines = 0;
    pattern.vertical_slash.slash_lines = 128;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, dim, rows);
    pattern_bench_fill(&bench, PATTERN_NOISE);
    for (long long i = 0; i < rows * dim; i++) {
        const float key = tamisi_half_to_float(bench.k[i < back * dim ? i : i - back * dim], bench.c.dtype);
        bench.q[i] = tamisi_half_from_float(2 * key, bench.c.dtype);
    }
    pattern_bench_make(&bench, NULL);
    pattern_bench_expect(&bench, 7, 3, (const int[]){0, 6, 7}); /* distances 128 to 255 are diagonal block 1 */
    pattern_bench_close(&bench);
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
    struct pattern_bench bench;
    pattern.flexprefill.min_tokens = 0;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 8 * 128);
    fill_steps(&bench, values);
    pattern_bench_make(&bench, NULL);
    pattern_bench_check(&bench, 1e-11, 1000, "query-aware");
    /* Query block 0 and those from 3 on give (nearly) 1 to one block; of gamma * 8 = 7.6 the halves of block 1 and the first
       third of block 2 find room, as there are no more than 1.6 left. */
    pattern_bench_expect(&bench, 1, 2, (const int[]){0, 1});
    pattern_bench_expect(&bench, 2, 2, (const int[]){0, 2}); /* (2, 0), and the main diagonal */
    pattern_bench_expect(&bench, 7, 3, (const int[]){0, 3, 7});

    for (long long i = 0; i < 8 * 128; i++) /* a needle in each block: one key of 100, one of -100 */
        bench.k[i * 64] = tamisi_half_from_float(i % 128 == 5 ? 100 : i % 128 == 6 ? -100 : 0, bench.c.dtype);
    pattern_bench_make(&bench, NULL);
    pattern_bench_check(&bench, 1e-11, 1000, "vertical and slash");
    pattern_bench_close(&bench);
}
END_TEST

/* What draws is in block 1 for the last query block, found by its antidiagonal; its own and the first are there anyway. */
START_TEST(test_xattention_needle)
{
    static const double values[] = {0, 120, 0, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_XATTENTION);
    struct pattern_bench bench;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 6 * 128 - 3);
    fill_steps(&bench, values);
    pattern_bench_make(&bench, NULL);
    pattern_bench_expect(&bench, 0, 1, (const int[]){0});
    pattern_bench_expect(&bench, 1, 2, (const int[]){0, 1});
    for (int i = 2; i < 6; i++) pattern_bench_expect(&bench, i, 3, (const int[]){0, 1, i});
    pattern_bench_close(&bench);
}
END_TEST

/* All alike: of n blocks at threshold t, those below t * n of the sum in all, the first ones. */
START_TEST(test_xattention_ties)
{
    static const double values[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    tamis_pattern pattern = pattern_of(TAMIS_PATTERN_XATTENTION);
    struct pattern_bench bench;
    pattern.xattention.threshold = 0.45;
    pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 10 * 128);
    fill_steps(&bench, values);
    pattern_bench_make(&bench, NULL);
    pattern_bench_expect(&bench, 9, 5, (const int[]){0, 1, 2, 3, 9});
    pattern_bench_close(&bench);
}
END_TEST

/* Not a number anywhere, and infinities: any lists, but within bounds and the same each time. */
START_TEST(test_nan)
{
    static const uint16_t bad[] = {0x7fc0, 0x7f80, 0xff80};
    for (int kind = TAMIS_PATTERN_VERTICAL_SLASH; kind <= TAMIS_PATTERN_TOPK_BLOCKS; kind++)
        for (size_t value = 0; value < sizeof bad / sizeof *bad; value++) {
            tamis_pattern pattern = pattern_of((tamis_pattern_kind)kind);
            struct pattern_bench bench;
            pattern.flexprefill.min_tokens = 128;
            pattern_bench_open(&bench, &pattern, 1, 1, 1, 64, 700);
            pattern_bench_fill(&bench, PATTERN_MODEL);
            for (int i = 0; i < 64; i++) bench.q[650 * 64 + i] = bench.k[300 * 64 + i] = bad[value];
            pattern_bench_make(&bench, NULL);
            for (int i = 0; i < 6; i++) {
                ck_assert_int_ge(bench.count[i], 0);
                ck_assert_int_le(bench.count[i], i + 1);
                for (int at = 0; at < bench.count[i]; at++) ck_assert_int_le(bench.list[i * 6 + at], i);
            }
            pattern_bench_close(&bench);
        }
}
END_TEST

TCase *pattern_hand_case(void)
{
    TCase *tcase = tcase_create("hand");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_topk_ties);
    tcase_add_test(tcase, test_vertical_column);
    tcase_add_test(tcase, test_slash_diagonal);
    tcase_add_test(tcase, test_flexprefill_switch);
    tcase_add_test(tcase, test_xattention_needle);
    tcase_add_test(tcase, test_xattention_ties);
    tcase_add_test(tcase, test_nan);
    return tcase;
}
