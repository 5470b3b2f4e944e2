/*
 * check_cpu.c: the CPU backend through the public API: reference cases, a table of shapes and policies against brute force,
 * and what must hold bit for bit. Its parts are tested in check_cpu_parts.c, the checker in check_cpu_equal.c.
 */
#define _GNU_SOURCE
#include "cpu_case.h"

#include "half.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

Suite *cpu_suite(void);
TCase *cpu_parts_case(void);
TCase *cpu_equal_case(void);

/* ---- reference cases */

static const char *const references[] = {"dense_nothing_dropped", "dense_short",    "gqa_d128",
                                         "gqa_d64_batch2",        "mha_d64_ragged", "min_tokens_floor"};
#define REFERENCE_COUNT ((int)(sizeof references / sizeof *references))

/* Each case in both precisions: equal by the definition, scores to rounding, and the steps give the same bits. */
START_TEST(reference_case)
{
    struct cpu_case one = CPU_CASE_INIT, steps = CPU_CASE_INIT;
    struct equal_report report;
    one.precision = steps.precision = _i < REFERENCE_COUNT ? TAMIS_FP32 : TAMIS_FP64;
    cpu_case_load(&one, references[_i % REFERENCE_COUNT]);
    cpu_case_load(&steps, references[_i % REFERENCE_COUNT]);
    cpu_case_open(&one);
    cpu_case_open(&steps);
    cpu_case_run(&one);
    cpu_case_check(&one, &report);
    ck_assert_int_eq(report.kept_differ, 0);
    ck_assert_int_eq(report.heads_computed, 0); /* the very lists of the reference */
    const long long scores = (long long)one.problem.batch * one.problem.q_heads * one.candidates;
    ck_assert_double_lt(equal_norm_error(one.score, one.reference_score, scores), one.precision == TAMIS_FP64 ? 1e-7 : 1e-6);
    cpu_case_check_lse(&one);
    cpu_case_steps(&steps);
    cpu_case_assert_same(&one, &steps);
    cpu_case_close(&one);
    cpu_case_close(&steps);
}
END_TEST

/* ---- shapes and policies */

#define COVERAGE(tau) TAMIS_COVERAGE, tau, 1.0, 0
#define RATIO(r) TAMIS_RATIO, 0.0, r, 0
#define COUNT(c) TAMIS_COUNT, 0.0, 1.0, c
#define DENSE TAMIS_DENSE, 0.0, 1.0, 0

static const struct shape {
    const char *name;
    int batch, q_heads, kv_heads, head_dim, seq_len, window, pool, min_tokens;
    tamis_policy policy;
    double coverage, ratio;
    int count;
    tamis_scope scope;
    tamis_dtype dtype;
    bool token_major;
    double scale;
    int kept; /* by the definition, in every sequence; 0: left to brute force */
} shapes[] = {
    {"paper's layout", 2, 4, 2, 64, 300, 32, 7, 16, COVERAGE(0.1), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 0},
    {"(B, L, H, D)", 2, 4, 2, 64, 300, 32, 7, 16, COVERAGE(0.1), TAMIS_SCOPE_HEAD, TAMIS_BF16, true, 0, 0},
    {"fp16", 1, 3, 1, 128, 257, 64, 5, 8, COVERAGE(0.2), TAMIS_SCOPE_HEAD, TAMIS_FP16, true, 0, 0},
    {"head_dim 96", 1, 2, 2, 96, 210, 33, 3, 0, COVERAGE(0.3), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 0},
    {"head_dim 256", 1, 2, 1, 256, 200, 40, 7, 10, COVERAGE(0.3), TAMIS_SCOPE_HEAD, TAMIS_FP16, false, 0, 0},
    {"ratio", 2, 2, 1, 64, 301, 32, 7, 16, RATIO(0.4), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 108 + 32},
    {"ratio below min_tokens", 1, 2, 1, 64, 301, 32, 7, 200, RATIO(0.4), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 232},
    {"ratio 1", 1, 2, 1, 64, 200, 32, 7, 16, RATIO(1.0), TAMIS_SCOPE_HEAD, TAMIS_BF16, true, 0, 200},
    {"count", 2, 2, 2, 64, 301, 32, 7, 16, COUNT(77), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 109},
    {"count of all but one", 1, 2, 2, 64, 160, 32, 7, 0, COUNT(127), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 159},
    {"count past the length", 1, 2, 2, 64, 160, 32, 7, 0, COUNT(500), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 160},
    {"count 0", 1, 2, 2, 64, 160, 32, 7, 0, COUNT(0), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 32},
    {"kv_group", 2, 6, 2, 64, 280, 32, 7, 16, COVERAGE(0.15), TAMIS_SCOPE_KV_GROUP, TAMIS_BF16, false, 0, 0},
    {"kv_group of all heads", 1, 4, 1, 64, 280, 32, 7, 16, RATIO(0.5), TAMIS_SCOPE_KV_GROUP, TAMIS_FP16, true, 0, 124 + 32},
    {"layer", 2, 6, 3, 64, 280, 32, 7, 16, COVERAGE(0.15), TAMIS_SCOPE_LAYER, TAMIS_BF16, true, 0, 0},
    {"one past the dense limit", 1, 2, 1, 64, 133, 32, 7, 100, COVERAGE(0.5), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 132},
    {"at the dense limit", 1, 2, 1, 64, 132, 32, 7, 100, COVERAGE(0.5), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 132},
    {"window 1, no pooling", 1, 2, 2, 64, 150, 1, 1, 0, COVERAGE(0.4), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 0},
    {"pool past the candidates", 1, 2, 2, 64, 60, 32, 63, 4, COUNT(11), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 43},
    {"no min_tokens, high coverage", 1, 2, 2, 64, 140, 32, 7, 0, COVERAGE(0.999), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 0},
    {"coverage 0", 1, 2, 2, 64, 140, 32, 7, 0, COVERAGE(0.0), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 140},
    {"scale given", 1, 2, 2, 64, 140, 32, 7, 0, COVERAGE(0.2), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0.03, 0},
    {"window is the sequence", 1, 2, 1, 64, 32, 32, 7, 0, COVERAGE(0.2), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 32},
    {"window longer than the sequence", 2, 2, 1, 64, 21, 32, 7, 0, RATIO(0.2), TAMIS_SCOPE_HEAD, TAMIS_BF16, false, 0, 21},
    {"one token", 2, 2, 1, 64, 1, 32, 7, 0, COVERAGE(0.2), TAMIS_SCOPE_HEAD, TAMIS_FP16, true, 0, 1},
    {"dense, with scores", 1, 2, 1, 128, 170, 48, 7, 0, DENSE, TAMIS_SCOPE_LAYER, TAMIS_BF16, true, 0, 170},
};
#define SHAPE_COUNT ((int)(sizeof shapes / sizeof *shapes))

static void set_shape(struct cpu_case *c, const struct shape *shape)
{
    tamis_problem *problem = &c->problem;
    problem->dtype = shape->dtype;
    problem->batch = shape->batch;
    problem->q_heads = shape->q_heads;
    problem->kv_heads = shape->kv_heads;
    problem->head_dim = shape->head_dim;
    problem->seq_len = shape->seq_len;
    problem->scale = shape->scale;
    problem->selection = (tamis_selection){shape->policy,     shape->scope,    shape->window, shape->pool,
                                           shape->min_tokens, shape->coverage, shape->ratio,  shape->count};
    c->token_major = shape->token_major;
}

START_TEST(shape_against_brute_force)
{
    const struct shape *shape = &shapes[_i % SHAPE_COUNT];
    struct cpu_case c = CPU_CASE_INIT, steps = CPU_CASE_INIT;
    struct equal_report report;
    c.precision = steps.precision = _i < SHAPE_COUNT ? TAMIS_FP32 : TAMIS_FP64;
    set_shape(&c, shape);
    set_shape(&steps, shape);
    cpu_case_open(&c);
    cpu_case_open(&steps);
    cpu_case_reference(&c);
    cpu_case_run(&c);
    cpu_case_check(&c, &report);
    if (c.precision == TAMIS_FP64) {
        ck_assert_int_eq(report.positions_differ, 0);
        ck_assert_int_eq(report.kept_differ, 0);
    }
    for (int b = 0; shape->kept && b < shape->batch; b++) ck_assert_int_eq(c.kept[b], shape->kept);
    const long long scores = (long long)shape->batch * shape->q_heads * c.candidates;
    ck_assert_double_lt(equal_norm_error(c.score, c.reference_score, scores), c.precision == TAMIS_FP64 ? 1e-7 : 1e-6);
    cpu_case_check_lse(&c);
    cpu_case_steps(&steps);
    cpu_case_assert_same(&c, &steps);
    cpu_case_close(&c);
    cpu_case_close(&steps);
}
END_TEST

/* Every token sees every other; lengths about the tiles' edges. Nothing but attention changes: the score stays causal. */
START_TEST(no_mask)
{
    static const struct {
        int head_dim, seq_len;
        tamis_dtype dtype;
    } cases[] = {{64, 1, TAMIS_BF16},  {64, 31, TAMIS_FP16},  {96, 32, TAMIS_BF16}, {128, 33, TAMIS_FP16},
                 {64, 65, TAMIS_BF16}, {256, 96, TAMIS_BF16}, {64, 170, TAMIS_BF16}};
    const int count = (int)(sizeof cases / sizeof *cases), at = _i % count;
    struct cpu_case c = CPU_CASE_INIT, steps = CPU_CASE_INIT, causal = CPU_CASE_INIT;
    struct cpu_case *const all[] = {&c, &steps, &causal};
    struct equal_report report;
    for (int i = 0; i < 3; i++) {
        tamis_problem *problem = &all[i]->problem;
        *problem = (tamis_problem){sizeof *problem, cases[at].dtype, 2, 4, 2, cases[at].head_dim, cases[at].seq_len, 0.0,
                                   {TAMIS_DENSE, TAMIS_SCOPE_HEAD, 16, 7, 0, 0.0, 1.0, 0},
                                   i == 2 ? TAMIS_CAUSAL : TAMIS_FULL};
        all[i]->precision = _i < count ? TAMIS_FP32 : TAMIS_FP64;
        all[i]->token_major = at % 2 == 1;
        cpu_case_open(all[i]);
    }
    cpu_case_reference(&c);
    cpu_case_run(&c);
    cpu_case_check(&c, &report);
    ck_assert_int_eq(report.heads_computed, 8);
    cpu_case_check_lse(&c);
    cpu_case_steps(&steps);
    cpu_case_assert_same(&c, &steps);
    cpu_case_run(&causal);
    const size_t scores = 8 * (size_t)c.candidates, elements = cpu_case_elements(&c, 4);
    if (scores > 0) ck_assert_mem_eq(c.score, causal.score, scores * sizeof(float));
    const bool same = memcmp(c.output, causal.output, elements * sizeof(uint16_t)) == 0;
    ck_assert_int_eq(same, cases[at].seq_len == 1);
    for (int i = 0; i < 3; i++) cpu_case_close(all[i]);
}
END_TEST

/* What tamis_score hands to select, from its own score: pooled, its sum over the group, its mean over all heads. */
START_TEST(rank_and_mean)
{
    static const int places[] = {0, 12, 14}; /* a shape of each scope */
    struct cpu_case c = CPU_CASE_INIT;
    set_shape(&c, &shapes[places[_i]]);
    c.token_major = false;
    cpu_case_open(&c);
    cpu_case_run(&c);
    const long long count = c.candidates, head = c.problem.seq_len * c.problem.head_dim, heads = c.problem.q_heads;
    const size_t bytes = tamis_plan_workspace_bytes(c.plan), lists = (size_t)c.problem.batch * (size_t)c.index_heads;
    const tamis_tensor q = {c.q, heads * head, head, c.problem.head_dim};
    const tamis_tensor k = {c.k, c.problem.kv_heads * head, head, c.problem.head_dim};
    void *workspace = guarded_alloc(bytes);
    float *rank = guarded_alloc(lists * (size_t)count * sizeof(float));
    float *mean = guarded_alloc((size_t)c.problem.batch * (size_t)count * sizeof(float));
    ck_assert_int_eq(tamis_score(c.plan, &q, &k, c.score, rank, mean, workspace, bytes, NULL), TAMIS_OK);

    const long long group = heads / c.index_heads, half = c.problem.selection.pool / 2;
    for (long long list = 0; list < (long long)lists; list++)
        for (long long j = 0; j < count; j++) {
            double sum = 0;
            for (long long h = 0; h < group; h++)
                for (long long i = j - half; i <= j + half; i++)
                    sum += i >= 0 && i < count ? (double)c.score[(list * group + h) * count + i] : 0;
            sum /= c.problem.selection.pool;
            if (c.problem.selection.scope == TAMIS_SCOPE_LAYER) sum /= (double)heads;
            const double found = (double)rank[list * count + j];
            if (fabs(found - sum) > 1e-7 * sum) ck_abort_msg("list %lld, token %lld: %g, not %g", list, j, found, sum);
            if (c.problem.selection.scope == TAMIS_SCOPE_LAYER)
                ck_assert_mem_eq(&rank[list * count + j], &mean[list * count + j], sizeof *rank);
        }
    guarded_free(mean);
    guarded_free(rank);
    guarded_free(workspace);
    cpu_case_close(&c);
}
END_TEST

/* ---- chosen inputs */

/* Keys of zeros: every candidate scores 1/L..., the same; without pooling all ranks are equal. */
START_TEST(equal_scores_keep_the_lowest)
{
    static const struct shape shape = {"equal", 2, 2, 1, 64, 1032, 32, 1, 16, COVERAGE(0.1005), TAMIS_SCOPE_HEAD,
                                       TAMIS_BF16, false, 0, 0};
    struct cpu_case c = CPU_CASE_INIT;
    struct equal_report report;
    c.precision = _i ? TAMIS_FP64 : TAMIS_FP32;
    set_shape(&c, &shape);
    cpu_case_open(&c);
    memset(c.k, 0, cpu_case_elements(&c, 1) * sizeof *c.k);
    cpu_case_reference(&c);
    cpu_case_run(&c);
    cpu_case_check(&c, &report);
    for (int b = 0; b < 2; b++) {
        ck_assert_int_eq(c.kept[b], 1000 - 101 + 32); /* 100 prefixes of 1000 equal parts are below 0.1005 */
        for (int h = 0; h < 2; h++)
            for (int i = 0; i < c.kept[b]; i++)
                ck_assert_int_eq(c.indices[(b * 2 + h) * c.capacity + i], i < 899 ? i : i + 101);
    }
    cpu_case_close(&c);
}
END_TEST

/* Queries all alike, and one key along them: nearly all of the mass is on the pooled width around it. */
static void make_dominant(struct cpu_case *c, int sequence, int token)
{
    const size_t dim = (size_t)c->problem.head_dim, rows = (size_t)c->problem.seq_len;
    const uint16_t one = tamisi_half_from_float(1.0f, c->problem.dtype);
    uint16_t *q = c->q + (size_t)sequence * (size_t)c->problem.q_heads * rows * dim;
    for (size_t i = 0; i < (size_t)c->problem.q_heads * rows * dim; i++) q[i] = one;
    for (size_t head = 0; head < (size_t)c->problem.kv_heads; head++) {
        uint16_t *key = c->k + (((size_t)sequence * (size_t)c->problem.kv_heads + head) * rows + (size_t)token) * dim;
        for (size_t d = 0; d < dim; d++) key[d] = tamisi_half_from_float(8.0f, c->problem.dtype);
    }
}

START_TEST(dominant_token)
{
    static const struct shape shape = {"dominant", 1, 2, 1, 64, 400, 32, 7, 0, COVERAGE(0.05), TAMIS_SCOPE_HEAD,
                                       TAMIS_BF16, false, 0, 0};
    struct cpu_case c = CPU_CASE_INIT;
    struct equal_report report;
    c.precision = _i ? TAMIS_FP64 : TAMIS_FP32;
    set_shape(&c, &shape);
    cpu_case_open(&c);
    make_dominant(&c, 0, 200);
    cpu_case_reference(&c);
    cpu_case_run(&c);
    cpu_case_check(&c, &report);
    ck_assert_int_eq(c.kept[0], 7 - 1 + 32); /* one more than the prefixes below the coverage is dropped */
    for (int i = 0; i < 6; i++) {
        ck_assert_int_ge(c.indices[i], 197);
        ck_assert_int_le(c.indices[i], 203);
    }
    ck_assert_double_gt((double)c.score[200], 0.999);
    cpu_case_close(&c);
}
END_TEST

/* A NaN anywhere must not lead out of bounds; the budget keeps all. */
START_TEST(not_a_number)
{
    static const struct shape shape = {"NaN", 1, 2, 1, 64, 200, 32, 7, 16, COVERAGE(0.1), TAMIS_SCOPE_HEAD,
                                       TAMIS_BF16, false, 0, 0};
    struct cpu_case c = CPU_CASE_INIT;
    set_shape(&c, &shape);
    if (_i) {
        c.problem.selection.policy = TAMIS_COUNT;
        c.problem.selection.count = 60;
    }
    cpu_case_open(&c);
    c.k[50 * 64] = 0x7fc0;
    cpu_case_run(&c);
    ck_assert_int_eq(c.kept[0], _i ? 60 + 32 : 200);
    for (int i = 1; i < c.kept[0]; i++) ck_assert_int_gt(c.indices[i], c.indices[i - 1]);
    ck_assert(isnan(c.wide[199 * 64]));
    cpu_case_close(&c);
}
END_TEST

/* ---- bit for bit */

static void copy_sequence(struct cpu_case *to, const struct cpu_case *from, int sequence)
{
    const size_t q = cpu_case_elements(to, to->problem.q_heads), k = cpu_case_elements(to, to->problem.kv_heads);
    memcpy(to->q, from->q + (size_t)sequence * q, q * sizeof *to->q);
    memcpy(to->k, from->k + (size_t)sequence * k, k * sizeof *to->k);
    memcpy(to->v, from->v + (size_t)sequence * k, k * sizeof *to->v);
}

/* A batch of a sequence that drops nothing, a very sparse one and a random one equals three single runs. */
START_TEST(batch_equals_single_runs)
{
    static const struct shape shape = {"mixed", 3, 4, 2, 64, 232, 32, 1, 8, COVERAGE(0.004), TAMIS_SCOPE_HEAD,
                                       TAMIS_BF16, false, 0, 0};
    struct cpu_case batch = CPU_CASE_INIT;
    set_shape(&batch, &shape);
    cpu_case_open(&batch);
    memset(batch.k, 0, cpu_case_elements(&batch, 2) / 3 * sizeof *batch.k); /* 200 equal parts, each above 0.004 */
    make_dominant(&batch, 1, 30);
    cpu_case_run(&batch);
    ck_assert_int_eq(batch.kept[0], 232);
    ck_assert_int_lt(batch.kept[1], batch.kept[2]);
    ck_assert_int_lt(batch.kept[2], 232);
    const size_t rows = cpu_case_elements(&batch, 4) / 3, lists = (size_t)batch.capacity * 4;
    for (size_t b = 0; b < 3; b++) {
        struct cpu_case single = CPU_CASE_INIT;
        set_shape(&single, &shape);
        single.problem.batch = 1;
        cpu_case_open(&single);
        copy_sequence(&single, &batch, (int)b);
        cpu_case_run(&single);
        ck_assert_int_eq(single.kept[0], batch.kept[b]);
        ck_assert_mem_eq(single.output, batch.output + b * rows, rows * sizeof *batch.output);
        ck_assert_mem_eq(single.score, batch.score + b * 4 * 200, 4 * 200 * sizeof(float));
        for (size_t h = 0; h < 4; h++)
            ck_assert_mem_eq(single.indices + h * (size_t)single.capacity,
                             batch.indices + b * lists + h * (size_t)batch.capacity,
                             (size_t)single.kept[0] * sizeof(int32_t));
        cpu_case_close(&single);
    }
    cpu_case_close(&batch);
}
END_TEST

START_TEST(any_number_of_threads)
{
    static const int threads[] = {1, 3, 8};
    struct cpu_case first = CPU_CASE_INIT;
    set_shape(&first, &shapes[_i]);
    cpu_case_open(&first);
    cpu_case_run(&first);
    for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
        struct cpu_case other = CPU_CASE_INIT;
        other.threads = threads[i];
        set_shape(&other, &shapes[_i]);
        cpu_case_open(&other);
        cpu_case_run(&other);
        cpu_case_assert_same(&first, &other);
        cpu_case_close(&other);
    }
    cpu_case_close(&first);
}
END_TEST

struct runner {
    const struct cpu_case *shared;
    struct cpu_case own;
};

static void *run_often(void *argument)
{
    struct runner *runner = argument;
    for (int i = 0; i < 3; i++) cpu_case_run(&runner->own);
    return NULL;
}

/* Four threads, one plan, a workspace each. */
START_TEST(one_plan_in_many_threads)
{
    struct cpu_case shared = CPU_CASE_INIT;
    struct runner runners[4];
    pthread_t threads[4];
    set_shape(&shared, &shapes[0]);
    shared.threads = 3;
    cpu_case_open(&shared);
    cpu_case_run(&shared);
    for (int i = 0; i < 4; i++) {
        runners[i] = (struct runner){&shared, shared};
        runners[i].own.output = NULL;
        runners[i].own.wide = NULL;
        runners[i].own.lse = runners[i].own.score = NULL;
        runners[i].own.kept = runners[i].own.indices = NULL;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_often, &runners[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
        cpu_case_assert_same(&shared, &runners[i].own);
        runners[i].own.plan = NULL; /* borrowed, as are the context and the inputs */
        runners[i].own.context = NULL;
        runners[i].own.q = runners[i].own.k = runners[i].own.v = NULL;
        cpu_case_close(&runners[i].own);
    }
    cpu_case_close(&shared);
}
END_TEST

/* Optional outputs left out change nothing in the others. */
START_TEST(outputs_left_out)
{
    struct cpu_case c = CPU_CASE_INIT;
    set_shape(&c, &shapes[_i ? SHAPE_COUNT - 1 : 2]);
    c.token_major = false;
    cpu_case_open(&c);
    cpu_case_run(&c);
    const long long dim = c.problem.head_dim, head = c.problem.seq_len * dim;
    const size_t bytes = tamis_plan_workspace_bytes(c.plan), elements = cpu_case_elements(&c, c.problem.q_heads);
    void *workspace = guarded_alloc(bytes);
    uint16_t *output = guarded_alloc(elements * sizeof *output);
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    args.q = (tamis_tensor){c.q, c.problem.q_heads * head, head, dim};
    args.k = (tamis_tensor){c.k, c.problem.kv_heads * head, head, dim};
    args.v = (tamis_tensor){c.v, c.problem.kv_heads * head, head, dim};
    args.output = (tamis_tensor){output, c.problem.q_heads * head, head, dim};
    ck_assert_int_eq(tamis_run(c.plan, &args, workspace, bytes, NULL), TAMIS_OK);
    ck_assert_mem_eq(output, c.output, elements * sizeof *output);
    guarded_free(output);
    guarded_free(workspace);
    cpu_case_close(&c);
}
END_TEST

/* ---- what a host can get wrong */

START_TEST(steps_check_lists)
{
    static const struct {
        int kept, entry, index;
        const char *message;
    } cases[] = {{0, 0, 0, "kept[0] is 0: 1 to the plan's capacity of 300"},
                 {301, 0, 0, "kept[0] is 301: 1 to the plan's capacity of 300"},
                 {-5, 0, 0, "kept[0] is -5: 1 to the plan's capacity of 300"},
                 {40, 3, 300, "indices[0, 0, 3] is 300: ascending positions below 300"},
                 {40, 3, -1, "indices[0, 0, 3] is -1: ascending positions below 300"},
                 {40, 3, 2, "indices[0, 0, 3] is 2: ascending positions below 300"}};
    struct cpu_case c = CPU_CASE_INIT;
    set_shape(&c, &shapes[0]);
    c.problem.batch = 1;
    cpu_case_open(&c);
    int32_t kept = cases[_i].kept, *indices = malloc((size_t)c.capacity * 4 * sizeof *indices);
    ck_assert_ptr_nonnull(indices);
    for (int i = 0; i < c.capacity * 4; i++) indices[i] = i % (int)c.capacity;
    indices[cases[_i].entry] = cases[_i].index;
    const tamis_tensor q = {c.q, 4 * 300 * 64, 300 * 64, 64}, k = {c.k, 2 * 300 * 64, 300 * 64, 64};
    uint16_t *rows = guarded_alloc(cpu_case_elements(&c, 4) * sizeof *rows);
    uint16_t *others = guarded_alloc(cpu_case_elements(&c, 4) * sizeof *others);
    const tamis_tensor out = {rows, 4 * 300 * 64, 300 * 64, 64}, other = {others, 4 * 300 * 64, 300 * 64, 64};
    void *workspace = guarded_alloc(tamis_plan_workspace_bytes(c.plan));
    const size_t bytes = tamis_plan_workspace_bytes(c.plan);

    ck_assert_int_eq(tamis_compress(c.plan, NULL, &k, &k, &kept, indices, NULL, &out, &other, workspace, bytes, NULL),
                     TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), cases[_i].message);
    ck_assert_int_eq(tamis_decompress(c.plan, &q, NULL, &kept, indices, &out, NULL, workspace, bytes, NULL), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), cases[_i].message);
    if (kept != 40) {
        ck_assert_int_eq(tamis_attend(c.plan, &q, &q, &q, &kept, &out, NULL, workspace, bytes, NULL), TAMIS_EINVAL);
        ck_assert_str_eq(tamis_last_error(), cases[_i].message);
    }
    guarded_free(workspace);
    guarded_free(others);
    guarded_free(rows);
    free(indices);
    cpu_case_close(&c);
}
END_TEST

START_TEST(description)
{
    struct cpu_case c = CPU_CASE_INIT;
    char text[1024];
    c.threads = _i ? 1 : 2;
    c.precision = _i ? TAMIS_FP64 : TAMIS_FP32;
    set_shape(&c, &shapes[0]);
    cpu_case_open(&c);
    ck_assert_int_eq(tamis_plan_describe(c.plan, text, sizeof text, NULL), TAMIS_OK);
    ck_assert_msg(strstr(text, _i ? "CPU, 1 thread\n" : "CPU, 2 threads\n") != NULL, "%s", text);
    ck_assert_msg(strstr(text, _i ? "attend: plain C, fp64\n" : "attend: plain C, fp32\n") != NULL, "%s", text);
    cpu_case_close(&c);
}
END_TEST

Suite *cpu_suite(void)
{
    Suite *suite = suite_create("cpu");
    TCase *whole = tcase_create("operator"), *bits = tcase_create("bits"), *misuse = tcase_create("misuse");
    tcase_set_timeout(whole, 120); /* sanitizers and valgrind are slow */
    tcase_set_timeout(bits, 120);
    tcase_add_loop_test(whole, reference_case, 0, 2 * REFERENCE_COUNT);
    tcase_add_loop_test(whole, shape_against_brute_force, 0, 2 * SHAPE_COUNT);
    tcase_add_loop_test(whole, no_mask, 0, 2 * 7);
    tcase_add_loop_test(whole, rank_and_mean, 0, 3);
    tcase_add_loop_test(whole, equal_scores_keep_the_lowest, 0, 2);
    tcase_add_loop_test(whole, dominant_token, 0, 2);
    tcase_add_loop_test(whole, not_a_number, 0, 2);
    tcase_add_test(bits, batch_equals_single_runs);
    tcase_add_loop_test(bits, any_number_of_threads, 0, 3);
    tcase_add_test(bits, one_plan_in_many_threads);
    tcase_add_loop_test(bits, outputs_left_out, 0, 2);
    tcase_add_loop_test(misuse, steps_check_lists, 0, 6);
    tcase_add_loop_test(misuse, description, 0, 2);
    suite_add_tcase(suite, whole);
    suite_add_tcase(suite, bits);
    suite_add_tcase(suite, misuse);
    suite_add_tcase(suite, cpu_parts_case());
    suite_add_tcase(suite, cpu_equal_case());
    return suite;
}
