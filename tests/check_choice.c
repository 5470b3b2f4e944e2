/*
 * check_choice.c: which variant a plan takes, from fictional timings: its own bucket, the nearest, another GPU, none; ties,
 * noise, losers and kernels that were wrong.
 */
#include "choice.h"

#include "plan.h"

#include <check.h>
#include <string.h>

Suite *choice_suite(void);

#define OPTIONS 5

static struct tamisi_option options[OPTIONS];
static struct tamisi_timing timings[64];
static size_t timing_count;
static struct tamisi_choice choice;
static size_t order[OPTIONS];

static const struct tamisi_gpu_identity h200 = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13};
static const struct tamisi_bucket at_8k = {.head_dim = 128, .q_heads = 32, .kv_heads = 8, .batch = 1, .seq_len = 8192,
                                           .kept = 4160, .window = 128};

static void set_up(void)
{
    timing_count = 0;
    for (int i = 0; i < OPTIONS; i++) options[i].source = tamisi_hash_bytes(&i, sizeof i);
}

static struct tamisi_timing *add(int option, const struct tamisi_bucket *bucket, const struct tamisi_gpu_identity *gpu,
                                 double median_us)
{
    struct tamisi_timing *timing = &timings[timing_count++];
    *timing = (struct tamisi_timing){.source = options[option].source, .bucket = *bucket, .gpu = *gpu, .state = TAMISI_TIMED,
                                     .rounds = 9, .median_us = median_us, .mad_us = median_us / 10000};
    return timing;
}

static void choose(const struct tamisi_bucket *bucket, const struct tamisi_gpu_identity *gpu)
{
    bool seen[OPTIONS] = {false};
    tamisi_choose(&choice, order, options, OPTIONS, timings, timing_count, bucket, gpu);
    for (int i = 0; i < OPTIONS; i++) { /* always a permutation: a plan can walk down all of it */
        ck_assert_uint_lt(order[i], OPTIONS);
        ck_assert(!seen[order[i]]);
        seen[order[i]] = true;
    }
}

static void expect_order(size_t a, size_t b, size_t c, size_t d, size_t e)
{
    const size_t wanted[] = {a, b, c, d, e};
    for (int i = 0; i < OPTIONS; i++) ck_assert_uint_eq(order[i], wanted[i]);
}

START_TEST(nothing_timed)
{
    choose(&at_8k, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_DEFAULT);
    expect_order(0, 1, 2, 3, 4);
    ck_assert_uint_eq(choice.timed, 0);
    ck_assert_double_eq(choice.gain, 1);
}
END_TEST

START_TEST(own_bucket)
{
    add(0, &at_8k, &h200, 100);
    add(3, &at_8k, &h200, 80);
    add(1, &at_8k, &h200, 90);
    add(2, &at_8k, &h200, 60)->state = TAMISI_STOPPED; /* a few rounds, not comparable */
    choose(&at_8k, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_BUCKET);
    expect_order(3, 1, 0, 2, 4);
    ck_assert_uint_eq(choice.timed, 3);
    ck_assert_double_eq_tol(choice.gain, 1.25, 1e-9);
    ck_assert_double_lt(choice.regret, 0);
}
END_TEST

/* Within the noise the rank decides, so that two runs agree; but never for one that is slower than the default. */
START_TEST(ties)
{
    add(2, &at_8k, &h200, 100);
    add(1, &at_8k, &h200, 100.4);
    choose(&at_8k, &h200);
    expect_order(1, 2, 0, 3, 4);
    timings[1].median_us = 101;
    choose(&at_8k, &h200);
    expect_order(2, 1, 0, 3, 4);
    timings[1].mad_us = 2; /* so much noise that the two cannot be told apart */
    choose(&at_8k, &h200);
    expect_order(1, 2, 0, 3, 4);
    add(0, &at_8k, &h200, 100.8);
    choose(&at_8k, &h200);
    expect_order(2, 0, 1, 3, 4);
    ck_assert_double_ge(choice.gain, 1);
    timings[2].median_us = 100.3;
    choose(&at_8k, &h200);
    ck_assert_uint_eq(order[0], 0);
    ck_assert_double_eq(choice.gain, 1);
}
END_TEST

START_TEST(nearest_bucket)
{
    struct tamisi_bucket long_one = at_8k, wanted = at_8k, dense = at_8k;
    long_one.seq_len = 32768;
    long_one.kept = 16448;
    add(1, &at_8k, &h200, 10);
    add(2, &at_8k, &h200, 12);
    add(2, &long_one, &h200, 100);
    add(1, &long_one, &h200, 103);
    wanted.seq_len = 24000;
    wanted.kept = 12064;
    choose(&wanted, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_NEAREST);
    ck_assert_int_eq(choice.bucket.seq_len, 32768);
    ck_assert_uint_eq(order[0], 2);
    wanted.seq_len = 10000;
    wanted.kept = 5064;
    choose(&wanted, &h200);
    ck_assert_uint_eq(order[0], 1);
    /* A dense plan reads other memory: nothing is concluded from sparse ones. */
    dense.dense = true;
    choose(&dense, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_DEFAULT);
}
END_TEST

START_TEST(regret)
{
    struct tamisi_bucket beside = at_8k, far = at_8k;
    beside.seq_len = 12288;
    beside.kept = 6240;
    far.seq_len = 1 << 20;
    far.kept = 1 << 19;
    add(1, &at_8k, &h200, 10);
    add(2, &at_8k, &h200, 12);
    add(2, &beside, &h200, 20);
    add(1, &beside, &h200, 21);
    add(2, &far, &h200, 50);
    add(1, &far, &h200, 100);
    choose(&at_8k, &h200);
    ck_assert_uint_eq(order[0], 1);
    ck_assert_double_eq_tol(choice.regret, 0.05, 1e-9);
}
END_TEST

START_TEST(other_gpu)
{
    const struct tamisi_gpu_identity fewer = {.cc = 90, .sm_count = 114, .l2_bytes = 50 << 20, .driver_major = 13};
    const struct tamisi_gpu_identity newer = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 14};
    const struct tamisi_gpu_identity other = {.cc = 80, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13};
    add(1, &at_8k, &other, 1);
    choose(&at_8k, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_DEFAULT);
    add(2, &at_8k, &fewer, 1);
    choose(&at_8k, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_OTHER_GPU);
    ck_assert_uint_eq(order[0], 2);
    add(3, &at_8k, &newer, 5); /* another driver is nearer than other multiprocessors */
    choose(&at_8k, &h200);
    ck_assert_uint_eq(order[0], 3);
    ck_assert_int_eq(choice.reason, TAMISI_BY_OTHER_GPU);
    struct tamisi_bucket far = at_8k; /* and this GPU is nearest of all, whatever the shape */
    far.seq_len = 1 << 20;
    add(4, &far, &h200, 50);
    choose(&at_8k, &h200);
    ck_assert_uint_eq(order[0], 4);
    ck_assert_int_eq(choice.reason, TAMISI_BY_NEAREST);
}
END_TEST

/* Wrong once, at whatever shape: last; and so is the default. */
START_TEST(bad_ones)
{
    struct tamisi_bucket far = at_8k;
    far.seq_len = 65536;
    add(1, &at_8k, &h200, 10);
    add(2, &at_8k, &h200, 20);
    add(1, &far, &h200, 0)->state = TAMISI_WRONG;
    add(0, &at_8k, &h200, 0)->state = TAMISI_HANG;
    add(4, &at_8k, &h200, 0)->state = TAMISI_STARTED; /* says nothing */
    choose(&at_8k, &h200);
    expect_order(2, 3, 4, 0, 1);
    ck_assert_double_eq(choice.gain, 1);
}
END_TEST

/* Timings of kernels that the store has no more do not count, and do not make a bucket. */
START_TEST(gone_kernels)
{
    const int gone = 77;
    add(0, &at_8k, &h200, 1)->source = tamisi_hash_bytes(&gone, sizeof gone);
    choose(&at_8k, &h200);
    ck_assert_int_eq(choice.reason, TAMISI_BY_DEFAULT);
    expect_order(0, 1, 2, 3, 4);
}
END_TEST

START_TEST(buckets)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    struct tamisi_bucket a, b;
    problem.dtype = TAMIS_FP16;
    problem.q_heads = 32, problem.kv_heads = 8, problem.head_dim = 128, problem.seq_len = 8192;
    problem.selection.policy = TAMIS_RATIO;
    problem.selection.ratio = 0.5;
    tamisi_bucket_make(&a, "score", &problem, 4160, false);
    tamisi_bucket_make(&b, "score", &problem, 8192, true);
    ck_assert(tamisi_bucket_equal(&a, &b)); /* made before anything is kept */
    ck_assert_int_eq(a.dtype, TAMIS_FP16);
    tamisi_bucket_make(&a, "attend", &problem, 4160, false);
    tamisi_bucket_make(&b, "attend", &problem, 8192, true);
    ck_assert(!tamisi_bucket_equal(&a, &b));
    ck_assert_double_lt(tamisi_bucket_distance(&a, &b), 0);
    problem.dtype = TAMIS_BF16;
    tamisi_bucket_make(&b, "attend", &problem, 4160, false);
    ck_assert_double_lt(tamisi_bucket_distance(&a, &b), 0);
    tamisi_bucket_make(&a, "compress", &problem, 4160, false);
    problem.dtype = TAMIS_FP16;
    tamisi_bucket_make(&b, "compress", &problem, 4160, false);
    ck_assert(tamisi_bucket_equal(&a, &b)); /* sixteen bits are sixteen bits */
    problem.seq_len = 16384;
    tamisi_bucket_make(&b, "compress", &problem, 8320, false);
    ck_assert_double_eq_tol(tamisi_bucket_distance(&a, &b), 1, 0.01);
}
END_TEST

/* Of block patterns: what attention's time depends on is how many rows and blocks, not whose lists they are. */
START_TEST(buckets_of_lists)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_pattern sliding = TAMIS_PATTERN_INIT, xattention = TAMIS_PATTERN_INIT;
    struct tamisi_bucket a, b, c;
    problem.q_heads = 32, problem.kv_heads = 8, problem.head_dim = 128, problem.seq_len = 131072;
    sliding.kind = TAMIS_PATTERN_SLIDING;
    xattention.kind = TAMIS_PATTERN_XATTENTION;
    ck_assert(tamisi_family_has_lists("attend_blocks") && tamisi_family_has_lists("pattern_xattn"));
    ck_assert(!tamisi_family_has_lists("attend") && !tamisi_family_has_lists("blocks"));
    tamisi_bucket_make_lists(&a, "attend_blocks", &problem, 65536, true, &sliding, 0.25);
    tamisi_bucket_make_lists(&b, "attend_blocks", &problem, 65536, true, &xattention, 0.25);
    ck_assert(tamisi_bucket_equal(&a, &b));
    ck_assert_int_eq(a.seq_len, 65536);
    ck_assert_int_eq(a.detail, 250);
    tamisi_bucket_make_lists(&b, "attend_blocks", &problem, 65536, false, &sliding, 0.25); /* of tokens that were chosen */
    ck_assert(!tamisi_bucket_equal(&a, &b));
    ck_assert_double_eq_tol(tamisi_bucket_distance(&a, &b), 0.25, 1e-9);
    tamisi_bucket_make_lists(&b, "attend_blocks", &problem, 65536, true, &sliding, 0.5);
    ck_assert(!tamisi_bucket_equal(&a, &b));
    ck_assert_double_eq_tol(tamisi_bucket_distance(&a, &b), 0.25, 1e-9);
    tamisi_bucket_make_lists(&c, "attend_blocks", &problem, 32768, true, &sliding, 0.25); /* an octave of length says less */
    ck_assert_double_gt(tamisi_bucket_distance(&a, &c), tamisi_bucket_distance(&a, &b));
    tamisi_bucket_make_lists(&c, "attend_blocks", &problem, 65536, true, &sliding, 1e-9);
    ck_assert_int_eq(c.detail, 1);
    tamisi_bucket_make(&c, "attend", &problem, 65536, true);
    ck_assert_double_lt(tamisi_bucket_distance(&a, &c), 0);
    /* Makers are told apart by what they make, and by what most of their work depends on. */
    tamisi_bucket_make_lists(&a, "pattern", &problem, 65536, true, &sliding, 0.25);
    tamisi_bucket_make_lists(&b, "pattern", &problem, 65536, true, &sliding, 0.5);
    ck_assert(tamisi_bucket_equal(&a, &b));
    tamisi_bucket_make_lists(&b, "pattern", &problem, 65536, true, &xattention, 0.25);
    ck_assert_double_lt(tamisi_bucket_distance(&a, &b), 0);
    ck_assert_int_eq(b.detail, 16);
    xattention.xattention.threshold = 0.5;
    tamisi_bucket_make_lists(&c, "pattern", &problem, 65536, true, &xattention, 0.25);
    ck_assert(tamisi_bucket_equal(&b, &c));
    xattention.xattention.stride = 8;
    tamisi_bucket_make_lists(&c, "pattern", &problem, 65536, true, &xattention, 0.25);
    ck_assert(!tamisi_bucket_equal(&b, &c));
    ck_assert_double_gt(tamisi_bucket_distance(&b, &c), 0);
}
END_TEST

/* What a pattern says of its lists before there is data. */
START_TEST(densities)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    pattern.kind = TAMIS_PATTERN_FLEXPREFILL;
    ck_assert_double_eq(tamisi_pattern_density(&pattern, 8), 0);
    pattern.kind = TAMIS_PATTERN_SLIDING; /* a block of sinks, and a window that may begin in the midst of one: 1 + 3 */
    pattern.sliding.sink_tokens = 128, pattern.sliding.window_tokens = 256;
    ck_assert_double_eq_tol(tamisi_pattern_density(&pattern, 8), 26.0 / 36, 1e-12);
    ck_assert_double_eq(tamisi_pattern_density(&pattern, 1), 1);
    pattern.kind = TAMIS_PATTERN_TOPK_BLOCKS;
    pattern.topk_blocks.blocks = 2;
    ck_assert_double_eq_tol(tamisi_pattern_density(&pattern, 8), 15.0 / 36, 1e-12);
    pattern.topk_blocks.blocks = 0, pattern.topk_blocks.ratio = 0.5;
    ck_assert_double_eq_tol(tamisi_pattern_density(&pattern, 8), 20.0 / 36, 1e-12);
    ck_assert_double_eq_tol(tamisi_pattern_density(&pattern, 1024), 0.5, 1e-3);
    pattern.kind = TAMIS_PATTERN_VERTICAL_SLASH;
    pattern.vertical_slash.vertical_lines = 100, pattern.vertical_slash.slash_lines = 200; /* 1 + 2 blocks */
    ck_assert_double_eq_tol(tamisi_pattern_density(&pattern, 8), 21.0 / 36, 1e-12);
    pattern.vertical_slash.coverage = 0.9;
    ck_assert_double_eq(tamisi_pattern_density(&pattern, 8), 0);
}
END_TEST

/* Within an octave of length and among the densities that are tuned, some bucket is near enough for a host that requires one:
   for tokens that were chosen too. */
START_TEST(lists_are_near)
{
    static const double tuned[] = {0.5, 0.25, 0.1};
    const tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    struct tamisi_bucket plan;
    problem.q_heads = 32, problem.kv_heads = 8, problem.head_dim = 128;
    for (double density = 0.05; density <= 1; density *= 1.1)
        for (long long rows = 8192; rows <= 131072; rows += 1000) {
            double least = 9;
            tamisi_bucket_make_lists(&plan, "attend_blocks", &problem, rows, false, &pattern, density);
            for (int d = 0; d < 3; d++)
                for (long long timed = 8192; timed <= 131072; timed *= 2) {
                    struct tamisi_bucket bucket;
                    tamisi_bucket_make_lists(&bucket, "attend_blocks", &problem, timed, true, &pattern, tuned[d]);
                    const double distance = tamisi_bucket_distance(&bucket, &plan);
                    least = distance < least ? distance : least;
                }
            ck_assert_msg(least <= 1, "%g of the blocks of %lld rows are %g away", density, rows, least);
        }
}
END_TEST

Suite *choice_suite(void)
{
    Suite *suite = suite_create("choice");
    TCase *cases = tcase_create("choice");
    tcase_add_checked_fixture(cases, set_up, NULL);
    tcase_add_test(cases, nothing_timed);
    tcase_add_test(cases, own_bucket);
    tcase_add_test(cases, ties);
    tcase_add_test(cases, nearest_bucket);
    tcase_add_test(cases, regret);
    tcase_add_test(cases, other_gpu);
    tcase_add_test(cases, bad_ones);
    tcase_add_test(cases, gone_kernels);
    tcase_add_test(cases, buckets);
    tcase_add_test(cases, buckets_of_lists);
    tcase_add_test(cases, densities);
    tcase_add_test(cases, lists_are_near);
    suite_add_tcase(suite, cases);
    return suite;
}
