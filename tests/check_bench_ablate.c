/*
 * check_bench_ablate.c: what `tamis bench ablate` is made of: linear maps, the ranks of baselines, and figures on the CPU: what
 * must hold between ways and between ratios whatever the inputs. One test case of check_bench.c's suite.
 */
#include "bench_ablate.h"
#include "linear_map.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TCase *bench_ablate_tests(void);

/* ---- linear maps */

enum { MAP_DIM = 5 };

static const double known_map[MAP_DIM][MAP_DIM] = {
    {1, 0.5, 0, 0, 0}, {0, 2, 0, 0, -1}, {0.25, 0, 1, 0, 0}, {0, 0, 3, 0.5, 0}, {0, 0, 0, 0, 1}};

static void random_row(double *out, unsigned long long which)
{
    for (int i = 0; i < MAP_DIM; i++) out[i] = bench_chance(7, (unsigned long long)i, which) - 0.5;
}

/* How far from the known map it is, in its worst element, fitted to so many sequences of four rows. */
static double distance_of_map(int sequences)
{
    struct linear_map map;
    double worst = 0;
    ck_assert(linear_map_open(&map, MAP_DIM));
    for (int s = 0; s < sequences; s++) {
        linear_map_begin(&map);
        for (int row = 0; row < 4; row++) {
            double x[MAP_DIM], y[MAP_DIM] = {0};
            random_row(x, (unsigned long long)(4 * s + row));
            for (int i = 0; i < MAP_DIM * MAP_DIM; i++) y[i / MAP_DIM] += known_map[i / MAP_DIM][i % MAP_DIM] * x[i % MAP_DIM];
            linear_map_add(&map, x, y);
        }
    }
    linear_map_solve(&map);
    for (int column = 0; column < MAP_DIM; column++) {
        double x[MAP_DIM] = {0}, y[MAP_DIM];
        x[column] = 1;
        linear_map_apply(&map, y, x);
        for (int i = 0; i < MAP_DIM; i++) worst = fmax(worst, fabs(y[i] - known_map[i][column]));
    }
    linear_map_close(&map);
    return worst;
}

START_TEST(map_of_many_sequences)
{
    ck_assert_double_gt(distance_of_map(1), 0.1);
    ck_assert_double_lt(distance_of_map(1000), 0.05);
    ck_assert_double_lt(distance_of_map(10000), 0.005);
}
END_TEST

/* One sequence gives a factor at once; no rows, or only zeros, give the identity. */
START_TEST(map_that_scales)
{
    struct linear_map map;
    double x[MAP_DIM] = {0}, y[MAP_DIM] = {0};
    const double factor = _i == 2 ? 0.625 : 1;
    ck_assert(linear_map_open(&map, MAP_DIM));
    linear_map_begin(&map);
    if (_i == 1) linear_map_add(&map, x, y);
    for (unsigned long long row = 0; _i == 2 && row < 3; row++) {
        random_row(x, row);
        for (int i = 0; i < MAP_DIM; i++) y[i] = factor * x[i];
        linear_map_add(&map, x, y);
    }
    linear_map_solve(&map);
    random_row(x, 99);
    linear_map_apply(&map, y, x);
    for (int i = 0; i < MAP_DIM; i++) ck_assert_double_eq_tol(y[i], factor * x[i], 1e-12);
    linear_map_close(&map);
}
END_TEST

/* ---- ranks */

enum { ROWS = 300, WINDOW = 32, CANDIDATES = ROWS - WINDOW, HEADS = 4 };

static struct ablate_case make_case(int layers, double own)
{
    struct ablate_case made = {.problem = TAMIS_PROBLEM_INIT,
                               .ratios = {0.25, 0.5, 1},
                               .ratio_count = 3,
                               .structure = STRUCTURED_INIT,
                               .layers = layers,
                               .fits = 1};
    made.structure.own = own;
    made.structure.local = 6;
    made.structure.spacing = 16;
    made.problem.q_heads = HEADS;
    made.problem.kv_heads = 2;
    made.problem.head_dim = 64;
    made.problem.seq_len = ROWS;
    /* Without pooling a head's choice is the best there is for its own mass. */
    made.problem.selection =
        (tamis_selection){.policy = TAMIS_RATIO, .window = WINDOW, .pool = 1, .min_tokens = 0, .ratio = 1};
    return made;
}

START_TEST(ranks_of_baselines)
{
    static float first[CANDIDATES], rank[HEADS * CANDIDATES + 1], other[HEADS * CANDIDATES];
    const tamis_problem p = make_case(1, 0).problem;
    double sum = 0;
    for (int j = 0; j < CANDIDATES; j++) first[j] = (float)(j * 7 % CANDIDATES);
    rank[HEADS * CANDIDATES] = -1;

    ablate_rank(rank, ABLATE_RECENT, &p, first, 3, 1);
    for (int j = 0; j < CANDIDATES; j++) ck_assert(rank[j] == (float)j);
    ablate_rank(rank, ABLATE_EVICT, &p, first, 3, 1);
    ck_assert_mem_eq(rank, first, sizeof first);

    ablate_rank(rank, ABLATE_RANDOM, &p, NULL, 3, 1);
    for (int i = 0; i < HEADS * CANDIDATES; i++) {
        ck_assert(rank[i] >= 0 && rank[i] <= 1);
        sum += (double)rank[i];
    }
    ck_assert_double_eq_tol(sum / (HEADS * CANDIDATES), 0.5, 0.03);
    for (int head = 1; head < HEADS; head++) ck_assert_mem_ne(rank, rank + head * CANDIDATES, sizeof first);
    ablate_rank(other, ABLATE_RANDOM, &p, NULL, 3, 1);
    ck_assert_mem_eq(other, rank, sizeof other);
    ablate_rank(other, ABLATE_RANDOM, &p, NULL, 2, 1);
    ck_assert_mem_ne(other, rank, sizeof other);
    ablate_rank(other, ABLATE_RANDOM, &p, NULL, 3, 2);
    ck_assert_mem_ne(other, rank, sizeof other);
    ck_assert(rank[HEADS * CANDIDATES] == -1); /* nothing behind it */

    ck_assert_int_eq(ablate_scope(ABLATE_RANDOM), TAMIS_SCOPE_HEAD);
    for (int way = ABLATE_RECENT; way < ABLATE_WAYS; way++)
        ck_assert_int_eq(ablate_scope((enum ablate_way)way), TAMIS_SCOPE_LAYER);
}
END_TEST

/* All of it is window: no way has a choice, nor ranks. */
START_TEST(ranks_of_none)
{
    tamis_problem p = make_case(1, 0).problem;
    float rank = -1;
    p.seq_len = WINDOW;
    for (int way = ABLATE_SCOPES; way < ABLATE_WAYS; way++) ablate_rank(&rank, (enum ablate_way)way, &p, NULL, 0, 1);
    ck_assert(rank == -1);
}
END_TEST

/* ---- figures */

static tamis_status measure(struct ablate_figures *out, const struct ablate_case *made)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    struct bench bench;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_OK);
    ck_assert_int_eq(bench_begin(&bench, context, 2, 1), TAMIS_OK);
    const tamis_status status = bench_ablate_measure(&bench, out, made, 1);
    bench_end(&bench);
    tamis_context_free(context);
    return status;
}

static void measure_right(struct ablate_figures *out, const struct ablate_case *made)
{
    ck_assert_msg(measure(out, made) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_msg(out->right, "%s", out->wrong);
}

#define SLACK 1e-5 /* of masses: scores are floats */

static void check_order(const struct ablate_row *rows)
{
    for (int way = ABLATE_HEAD; way < ABLATE_WAYS; way++) {
        ck_assert_double_le(rows[way].window_mass, rows[ABLATE_HEAD].window_mass + SLACK);
        if (way >= ABLATE_LAYER && way != ABLATE_RANDOM)
            ck_assert_double_le(rows[way].window_mass, rows[ABLATE_LAYER].window_mass + SLACK);
        ck_assert_double_gt(rows[way].error, 0);
    }
    ck_assert_double_le(rows[ABLATE_LAYER].window_mass, rows[ABLATE_KV_GROUP].window_mass + SLACK);
}

/* Heads that choose for themselves cover the most; more tokens never cover less; all of them are dense attention. */
START_TEST(order_of_ways)
{
    const struct ablate_case made = make_case(3, 0.5);
    struct ablate_figures out;
    measure_right(&out, &made);
    for (int i = 0; i < 3; i++) check_order(out.ratios[i].ways);
    for (int way = 0; way < ABLATE_WAYS; way++) {
        const struct ablate_row *few = &out.ratios[0].ways[way], *half = &out.ratios[1].ways[way];
        const struct ablate_row *all = &out.ratios[2].ways[way];
        ck_assert_int_eq(few->kept, CANDIDATES / 4 + WINDOW);
        ck_assert_int_eq(half->kept, CANDIDATES / 2 + WINDOW);
        ck_assert_int_eq(all->kept, ROWS);
        ck_assert(few->window_mass <= half->window_mass + SLACK && half->window_mass <= all->window_mass + SLACK);
        ck_assert(few->mass <= half->mass + SLACK && half->mass <= all->mass + SLACK);
        ck_assert_double_eq_tol(all->window_mass, 1, SLACK);
        ck_assert_double_eq_tol(all->mass, 1, SLACK);
        ck_assert_double_le(all->error, out.error_limit);
        ck_assert_double_le(all->window_error, out.error_limit);
        ck_assert_double_le(all->zeros, out.error_limit);
        ck_assert_double_le(all->error_mapped, 2 * out.error_limit);
        ck_assert_double_gt(few->window_error, 4 * out.error_limit);
        ck_assert(few->zeros > 0.5 && few->zeros < 1.3);
        ck_assert_int_eq(few->time.ms > 0, way < ABLATE_SCOPES);
        ck_assert_int_eq(few->mapped_time.ms > 0, way < ABLATE_SCOPES); /* the CPU applies maps itself */
    }
    ck_assert(out.fused);
    ck_assert_double_gt(out.ratios[0].dense.ms, 0);
    const struct ablate_row *few = out.ratios[0].ways;
    ck_assert_double_gt(few[ABLATE_HEAD].window_mass, few[ABLATE_LAYER].window_mass + 0.001);
    ck_assert_double_gt(few[ABLATE_LAYER].window_mass, few[ABLATE_RECENT].window_mass + 0.01);
    ck_assert_double_lt(few[ABLATE_HEAD].window_error, few[ABLATE_RANDOM].window_error);
    ck_assert_double_gt(few[ABLATE_HEAD].zeros, out.ratios[1].ways[ABLATE_HEAD].zeros);
    /* Random tokens of a number cover that part; what they leave out makes kept rows too large, which a map mends. */
    ck_assert_double_eq_tol(few[ABLATE_RANDOM].mass, 0.25 + 0.75 * WINDOW / ROWS, 0.2);
    ck_assert_double_lt(few[ABLATE_RANDOM].error_mapped, 0.95 * few[ABLATE_RANDOM].error);
}
END_TEST

/* In one layer what is chosen there is the layer's choice; in several it loses, and more where they have less in common. */
START_TEST(taken_once)
{
    struct ablate_figures one, alike, different;
    struct ablate_case made = make_case(1, 0.5);
    measure_right(&one, &made);
    for (int i = 0; i < 3; i++)
        ck_assert_mem_eq(&one.ratios[i].ways[ABLATE_EVICT], &one.ratios[i].ways[ABLATE_LAYER],
                         offsetof(struct ablate_row, time));
    made = make_case(3, 0);
    measure_right(&alike, &made);
    made = make_case(3, 1);
    measure_right(&different, &made);
    const struct ablate_row *a = alike.ratios[0].ways, *d = different.ratios[0].ways;
    const double lost_alike = a[ABLATE_LAYER].window_mass - a[ABLATE_EVICT].window_mass;
    const double lost_different = d[ABLATE_LAYER].window_mass - d[ABLATE_EVICT].window_mass;
    ck_assert_double_gt(lost_alike, 0);
    ck_assert_msg(lost_different > 1.5 * lost_alike, "%g and %g are lost", lost_alike, lost_different);
}
END_TEST

static const long long short_lengths[] = {1, 5, WINDOW, WINDOW + 1};

START_TEST(short_sequences)
{
    struct ablate_case made = make_case(1, 0.5);
    struct ablate_figures out;
    made.problem.seq_len = short_lengths[_i];
    measure_right(&out, &made);
    for (int way = 0; way < ABLATE_WAYS; way++) {
        ck_assert_int_eq(out.ratios[0].ways[way].kept, made.problem.seq_len);
        ck_assert_double_eq_tol(out.ratios[0].ways[way].mass, 1, SLACK);
        ck_assert_double_eq_tol(out.ratios[0].ways[way].window_mass, 1, SLACK);
    }
}
END_TEST

START_TEST(no_figure)
{
    struct ablate_case made = make_case(1, 0.5);
    struct ablate_figures out;
    made.problem.selection.pool = 2;
    ck_assert_int_eq(measure(&out, &made), TAMIS_EINVAL);
    ck_assert(!out.right);
}
END_TEST

TCase *bench_ablate_tests(void)
{
    TCase *tests = tcase_create("ablate");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, map_of_many_sequences);
    tcase_add_loop_test(tests, map_that_scales, 0, 3);
    tcase_add_test(tests, ranks_of_baselines);
    tcase_add_test(tests, ranks_of_none);
    tcase_add_test(tests, order_of_ways);
    tcase_add_test(tests, taken_once);
    tcase_add_loop_test(tests, short_sequences, 0, (int)(sizeof short_lengths / sizeof *short_lengths));
    tcase_add_test(tests, no_figure);
    return tests;
}
