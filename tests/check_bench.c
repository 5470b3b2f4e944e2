/*
 * check_bench.c: what `tamis bench attention` is made of: reading lines of JSON and the figures of peers in them, which of
 * those belongs to a problem, the counting, random tensors, the check of a result, and the clock.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "child.h"
#include "half.h"
#include "json_read.h"
#include "structured.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *bench_suite(void);
TCase *bench_operator_tests(void); /* check_bench_operator.c */
TCase *bench_ablate_tests(void);   /* check_bench_ablate.c */

/* ---- lines of JSON */

struct member_log {
    char text[256];
};

static void log_member(void *payload, struct json_text key, const struct json_value *value)
{
    struct member_log *log = payload;
    const size_t used = strlen(log->text);
    snprintf(log->text + used, sizeof log->text - used, "%.*s=%d:%.*s;", (int)key.bytes, key.begin, (int)value->type,
             (int)value->text.bytes, value->text.begin);
}

static const struct {
    const char *line, *members; /* NULL: no object */
} lines[] = {
    {"{}", ""},
    {" { } \n", ""},
    {"{\"a\":1}", "a=1:1;"},
    {"{\"a\": -1.5e-3, \"b\": \"x\\\"y\", \"c\" :true,\"d\":null}\n", "a=1:-1.5e-3;b=0:x\\\"y;c=2:true;d=2:null;"},
    {"{\"a\": {\"b\": [1, {}, \"}\"]}, \"c\": [], \"d\": 0.5}", "a=3:{\"b\": [1, {}, \"}\"]};c=3:[];d=1:0.5;"},
    {"", NULL}, {"1", NULL}, {"[1]", NULL}, {"{", NULL}, {"{\"a\"}", NULL}, {"{\"a\":}", NULL}, {"{\"a\":1", NULL},
    {"{\"a\":1,}", NULL}, {"{a:1}", NULL}, {"{\"a\":1} x", NULL}, {"{\"a\":1}{}", NULL}, {"{\"a\":01}", NULL},
    {"{\"a\":1.}", NULL}, {"{\"a\":1e}", NULL}, {"{\"a\":-}", NULL}, {"{\"a\":NaN}", NULL}, {"{\"a\":truth}", NULL},
    {"{\"a\":\"x}", NULL}, {"{\"a\":\"x\\", NULL}, {"{\"a\":[1,]}", NULL}, {"{\"a\":[1}}", NULL}, {"{\"a\":{\"b\"}}", NULL},
    {"{\"a\":\"x\ny\"}", NULL},
    {"{\"a\":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}", NULL}, /* deeper than is read */
};

START_TEST(json_line)
{
    struct member_log log = {""};
    ck_assert_int_eq(json_read(lines[_i].line, log_member, &log), lines[_i].members != NULL);
    if (lines[_i].members) ck_assert_str_eq(log.text, lines[_i].members);
}
END_TEST

/* ---- files of peers */

#define FIGURE(backend, layout, length, ms)                                                                                \
    "{\"what\": \"dense\", \"ms\": " ms ", \"tflops\": 1.0, \"backend\": \"" backend "\", \"layout\": \"" layout "\", "     \
    "\"head_dim\": 128, \"seq_len\": " length ", \"q_heads\": 32, \"kv_heads\": 8, \"dtype\": \"bf16\", \"causal\": true}\n"

static const char good_file[] = "{\"what\": \"device\", \"name\": \"GPU\"}\n"
                                "{\"what\": \"gemm\", \"tflops\": 700.5}\n"
                                FIGURE("cudnn", "head", "8192", "1.25")
                                "\n"
                                FIGURE("cudnn", "token", "8192", "1.125")
                                FIGURE("cudnn", "head", "8192", "1.5")
                                FIGURE("fa2", "head", "8192", "2")
                                FIGURE("cudnn", "head", "32768", "16")
                                "{\"what\": \"refused\", \"backend\": \"cudnn\", \"head_dim\": 256}\n"
                                "{\"what\": \"token_sparse\", \"head_dim\": 128, \"total_ms\": {\"fa2\": 3}}";

static tamis_status read_text(struct bench_peers *peers, const char *text, size_t bytes)
{
    char path[] = "/tmp/check_bench_XXXXXX";
    const int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(write(file, text, bytes), (ssize_t)bytes);
    close(file);
    const tamis_status status = bench_peers_read(peers, path);
    unlink(path);
    return status;
}

static const struct bench_key key_8k = {128, 32, 8, 8192, TAMIS_BF16, true};

START_TEST(best_of_peers)
{
    struct bench_peers peers = {.list = NULL};
    ck_assert_msg(read_text(&peers, good_file, sizeof good_file - 1) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_uint_eq(peers.count, 5);
    ck_assert_int_eq(peers.backend_count, 2);
    ck_assert_str_eq(peers.backends[0], "cudnn");
    ck_assert_str_eq(peers.backends[1], "fa2");
    const struct bench_peer *best = bench_peers_best(&peers, "cudnn", &key_8k);
    ck_assert_ptr_nonnull(best);
    ck_assert_str_eq(best->layout, "token");
    ck_assert_double_eq(best->ms, 1.125);
    ck_assert_double_eq(bench_peers_best(&peers, "fa2", &key_8k)->ms, 2);
    ck_assert_ptr_null(bench_peers_best(&peers, "fa3", &key_8k));

    /* Another run's file: the best of both. */
    static const char more[] = FIGURE("cudnn", "head", "8192", "1.0") FIGURE("fa3", "", "8192", "0.75");
    ck_assert_int_eq(read_text(&peers, more, sizeof more - 1), TAMIS_OK);
    ck_assert_double_eq(bench_peers_best(&peers, "cudnn", &key_8k)->ms, 1);
    ck_assert_double_eq(bench_peers_best(&peers, "fa3", &key_8k)->ms, 0.75);
    ck_assert_int_eq(peers.backend_count, 3);
    bench_peers_free(&peers);
    ck_assert_uint_eq(peers.count, 0);
}
END_TEST

/* A problem that differs in one thing is another one. */
START_TEST(other_problems)
{
    static const struct bench_key others[] = {{64, 32, 8, 8192, TAMIS_BF16, true},   {128, 16, 8, 8192, TAMIS_BF16, true},
                                              {128, 32, 32, 8192, TAMIS_BF16, true}, {128, 32, 8, 8193, TAMIS_BF16, true},
                                              {128, 32, 8, 8192, TAMIS_FP16, true},  {128, 32, 8, 8192, TAMIS_BF16, false}};
    struct bench_peers peers = {.list = NULL};
    ck_assert_int_eq(read_text(&peers, good_file, sizeof good_file - 1), TAMIS_OK);
    ck_assert_ptr_null(bench_peers_best(&peers, "cudnn", &others[_i]));
    bench_peers_free(&peers);
}
END_TEST

static const struct {
    const char *from, *to; /* put into the third line of the good file; the message names it */
    const char *words;
} bad_members[] = {
    {"\"backend\": \"cudnn\", ", "", ":3: \"backend\" is missing or wrong"},
    {"\"cudnn\"", "\"a name of sixteen\"", "\"backend\""},
    {"\"cudnn\"", "7", "\"backend\""},
    {"\"head_dim\": 128", "\"head_dim\": 128.5", "\"head_dim\""},
    {"\"head_dim\": 128", "\"head_dim\": -128", "\"head_dim\""},
    {"\"head_dim\": 128", "\"head_dim\": 1e300", "\"head_dim\""},
    {"\"head_dim\": 128", "\"head_dim\": \"128\"", "\"head_dim\""},
    {"\"seq_len\": 8192", "\"seq_len\": 0", "\"seq_len\""},
    {"\"q_heads\": 32, ", "", "\"q_heads\""},
    {"\"kv_heads\": 8", "\"kv_heads\": null", "\"kv_heads\""},
    {"\"bf16\"", "\"fp8\"", "\"dtype\""},
    {"\"causal\": true", "\"causal\": 1", "\"causal\""},
    {"\"ms\": 1.25", "\"ms\": 0", "\"ms\""},
    {"\"ms\": 1.25", "\"ms\": 1e999", "\"ms\""},
    {"\"ms\": 1.25", "\"ms\": 1.2.5", ":3: no JSON object"},
};

START_TEST(bad_member)
{
    struct bench_peers peers = {.list = NULL};
    char text[2048];
    const char *at = strstr(good_file, bad_members[_i].from);
    ck_assert_ptr_nonnull(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good_file), good_file, bad_members[_i].to,
             at + strlen(bad_members[_i].from));
    ck_assert_int_eq(read_text(&peers, text, strlen(text)), TAMIS_EINVAL);
    ck_assert_msg(strstr(tamis_last_error(), bad_members[_i].words) != NULL, "%s", tamis_last_error());
    bench_peers_free(&peers);
}
END_TEST

START_TEST(bad_peer_files)
{
    struct bench_peers peers = {.list = NULL};
    static const char zero[] = "{\"what\": \"gemm\"}\n{\"what\":\0 1}\n";
    static const char five[] = FIGURE("a", "", "1", "1") FIGURE("b", "", "1", "1") FIGURE("c", "", "1", "1")
        FIGURE("d", "", "1", "1") FIGURE("e", "", "1", "1");
    ck_assert_int_eq(bench_peers_read(&peers, "/nonexistent/peers.json"), TAMIS_ENOTFOUND);
    ck_assert_int_eq(bench_peers_read(&peers, "/tmp"), TAMIS_EIO);
    ck_assert_int_eq(read_text(&peers, "", 0), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "no figure of dense attention"));
    ck_assert_int_eq(read_text(&peers, zero, sizeof zero - 1), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), ":2: no JSON object, but a zero byte"));
    ck_assert_int_eq(read_text(&peers, "text\n", 5), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), ":1: no JSON object"));
    ck_assert_int_eq(read_text(&peers, five, sizeof five - 1), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "more than 4 backends: e "));
    bench_peers_free(&peers);
}
END_TEST

/* ---- counting */

static struct bench_case dense_case(long long seq_len)
{
    struct bench_case made = {.problem = TAMIS_PROBLEM_INIT};
    made.problem.q_heads = 4;
    made.problem.kv_heads = 2;
    made.problem.head_dim = 64;
    made.problem.seq_len = seq_len;
    return made;
}

static struct bench_case compact_case(long long seq_len, long long kept)
{
    struct bench_case made = dense_case(seq_len);
    made.problem.selection = (tamis_selection){TAMIS_COUNT, TAMIS_SCOPE_HEAD, 16, 7, 0, 0.0, 1.0, kept - 16};
    return made;
}

START_TEST(counts)
{
    struct bench_case made = dense_case(1000);
    ck_assert_double_eq(bench_flops(&made.problem, 1000), 2.0 * 1000 * 1000 * 64 * 4);
    made.problem.mask = TAMIS_FULL;
    ck_assert_double_eq(bench_flops(&made.problem, 1000), 4.0 * 1000 * 1000 * 64 * 4);
    made = compact_case(1000, 400);
    ck_assert_double_eq(bench_flops(&made.problem, 400), 2.0 * 400 * 400 * 64 * 4);
    made = dense_case(131072); /* past 32 bits */
    ck_assert_double_eq(bench_flops(&made.problem, 131072), 2.0 * 131072 * 131072 * 64 * 4);

    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {5};
    ck_assert_double_eq(bench_median(odd, 3), 2);
    ck_assert_double_eq(odd[0], 1);
    ck_assert_double_eq(bench_median(even, 4), 3);
    ck_assert_double_eq(bench_median(one, 1), 5);
}
END_TEST

/* ---- figures on the CPU */

static void open_bench(struct bench *bench, unsigned long long seed)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = 2;
    ck_assert_int_eq(tamis_context_create(&context, &options), TAMIS_OK);
    ck_assert_int_eq(bench_begin(bench, context, 3, seed), TAMIS_OK);
}

static void shut_bench(struct bench *bench)
{
    tamis_context *context = bench->context;
    bench_end(bench);
    tamis_context_free(context);
}

START_TEST(figure_of_a_problem)
{
    static const struct {
        long long seq_len, kept; /* kept 0: dense */
        tamis_mask mask;
        tamis_dtype dtype;
        struct bench_key key;
    } cases[] = {{1, 0, TAMIS_CAUSAL, TAMIS_BF16, {64, 4, 2, 1, TAMIS_BF16, true}},
                 {77, 0, TAMIS_CAUSAL, TAMIS_FP16, {64, 4, 2, 77, TAMIS_FP16, true}},
                 {130, 0, TAMIS_FULL, TAMIS_BF16, {64, 4, 2, 130, TAMIS_BF16, false}},
                 {200, 80, TAMIS_CAUSAL, TAMIS_BF16, {64, 4, 4, 80, TAMIS_BF16, true}},
                 {200, 200, TAMIS_CAUSAL, TAMIS_FP16, {64, 4, 4, 200, TAMIS_FP16, true}}};
    struct bench_case made = cases[_i].kept ? compact_case(cases[_i].seq_len, cases[_i].kept) : dense_case(cases[_i].seq_len);
    struct bench bench;
    struct bench_figure figure;
    made.problem.mask = cases[_i].mask;
    made.problem.dtype = cases[_i].dtype;
    open_bench(&bench, 1);
    ck_assert_msg(bench_measure(&bench, &figure, &made, 1) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert(figure.right);
    ck_assert_int_eq(figure.error > 0, figure.rows > 1); /* 16 bits are not exact, but for a copy of V */
    ck_assert_double_le(figure.error, figure.error_limit);
    ck_assert_int_eq(figure.rows, cases[_i].kept ? cases[_i].kept : cases[_i].seq_len);
    ck_assert_double_gt(figure.least_ms, 0);
    ck_assert_double_le(figure.least_ms, figure.ms);
    ck_assert_double_le(figure.ms, figure.most_ms);
    ck_assert_int_eq(figure.sm_mhz, 0);
    ck_assert_str_eq(figure.variant, "plain C");
    const struct bench_key key = bench_key_of(&made, &figure), *wanted = &cases[_i].key;
    ck_assert_int_eq(key.head_dim, wanted->head_dim);
    ck_assert_int_eq(key.q_heads, wanted->q_heads);
    ck_assert_int_eq(key.kv_heads, wanted->kv_heads);
    ck_assert_int_eq(key.seq_len, wanted->seq_len);
    ck_assert_int_eq((int)key.dtype, (int)wanted->dtype);
    ck_assert_int_eq(key.causal, wanted->causal);
    shut_bench(&bench);
}
END_TEST

/* Compared cases are timed together or not at all. */
START_TEST(figures_together)
{
    struct bench_case made[2] = {dense_case(80), compact_case(200, 80)};
    struct bench bench;
    struct bench_figure figures[2];
    open_bench(&bench, 3);
    ck_assert_msg(bench_measure(&bench, figures, made, 2) == TAMIS_OK, "%s", tamis_last_error());
    for (int i = 0; i < 2; i++) {
        ck_assert(figures[i].right);
        ck_assert_int_eq(figures[i].rows, 80);
        ck_assert_double_gt(figures[i].least_ms, 0);
        ck_assert_double_le(figures[i].least_ms, figures[i].ms);
        ck_assert_double_le(figures[i].ms, figures[i].most_ms);
    }
    made[1].problem.head_dim = 80;
    ck_assert_int_eq(bench_measure(&bench, figures, made, 2), TAMIS_EINVAL);
    ck_assert(figures[0].right && !figures[1].right);
    ck_assert_double_eq(figures[0].ms, 0);
    shut_bench(&bench);
}
END_TEST

START_TEST(no_figure)
{
    struct bench_case made = dense_case(64);
    struct bench bench;
    struct bench_figure figure;
    open_bench(&bench, 1);
    made.problem.head_dim = 80;
    ck_assert_int_eq(bench_measure(&bench, &figure, &made, 1), TAMIS_EINVAL);
    ck_assert(!figure.right);
    shut_bench(&bench);
}
END_TEST

enum { ROWS = 300, DIM = 64, COUNT = 4 * ROWS * DIM };

/* Random numbers are what they should be, of one seed the same, and no row of one tensor is a row of another. */
START_TEST(random_tensors)
{
    struct bench a, b;
    const struct bench_case made = dense_case(ROWS);
    static uint16_t q[COUNT], k[COUNT], again[COUNT];
    open_bench(&a, 5);
    open_bench(&b, 5);
    ck_assert_int_eq(bench_fill(&a, q, &made.problem, 4, ROWS, 0), TAMIS_OK);
    ck_assert_int_eq(bench_fill(&b, again, &made.problem, 4, ROWS, 0), TAMIS_OK);
    ck_assert_mem_eq(q, again, sizeof q);
    ck_assert_int_eq(bench_fill(&a, k, &made.problem, 4, ROWS, 40), TAMIS_OK);
    double sum = 0, squares = 0;
    for (int i = 0; i < COUNT; i++) {
        const double value = (double)tamisi_bf16_to_float(q[i]);
        sum += value;
        squares += value * value;
    }
    ck_assert_double_le(fabs(sum / COUNT), 0.02); /* five deviations of the mean of so many */
    ck_assert_double_eq_tol(squares / COUNT, 1, 0.03);
    for (int i = 0; i < 4 * ROWS; i++)
        for (int j = 0; j < 4 * ROWS; j++)
            if (memcmp(q + i * DIM, k + j * DIM, DIM * sizeof *q) == 0) ck_abort_msg("row %d is row %d", i, j);
    shut_bench(&a);
    shut_bench(&b);
}
END_TEST

/* A wrong result does not pass: poison left anywhere, an output a little too large, one row of another head. */
START_TEST(wrong_results)
{
    const struct bench_case made = dense_case(ROWS);
    static uint16_t q[COUNT], k[COUNT / 2], v[COUNT / 2], output[COUNT];
    const struct bench_arrays arrays = {.q = q, .k = k, .v = v, .output = output, .kv_heads = 2, .rows = ROWS};
    struct bench bench;
    struct bench_figure figure = {.right = false};
    tamis_plan *plan;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    open_bench(&bench, 1);
    ck_assert_int_eq(tamis_plan_create(&plan, bench.context, NULL, &made.problem), TAMIS_OK);
    const size_t bytes = tamis_plan_workspace_bytes(plan);
    void *workspace = aligned_alloc(256, bytes);
    ck_assert_int_eq(bench_fill(&bench, q, &made.problem, 4, ROWS, 0), TAMIS_OK);
    ck_assert_int_eq(bench_fill(&bench, k, &made.problem, 2, ROWS, 40), TAMIS_OK);
    ck_assert_int_eq(bench_fill(&bench, v, &made.problem, 2, ROWS, 24), TAMIS_OK);
    args.q = (tamis_tensor){q, COUNT, ROWS * DIM, DIM};
    args.k = (tamis_tensor){k, COUNT / 2, ROWS * DIM, DIM};
    args.v = (tamis_tensor){v, COUNT / 2, ROWS * DIM, DIM};
    args.output = (tamis_tensor){output, COUNT, ROWS * DIM, DIM};
    ck_assert_int_eq(bench_poison(&bench, output, sizeof output), TAMIS_OK);
    ck_assert_int_eq(bench_check(&bench, &figure, &made.problem, &arrays), TAMIS_OK);
    ck_assert(!figure.right && isnan(figure.error));
    ck_assert_msg(tamis_run(plan, &args, workspace, bytes, NULL) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(bench_check(&bench, &figure, &made.problem, &arrays), TAMIS_OK);
    ck_assert(figure.right);

    const uint16_t kept = output[(ROWS - 1) * DIM]; /* of head 0's last row, which is always looked at */
    if (_i == 0) output[17 * DIM + 3] = 0x7fc0;
    if (_i == 1) output[(ROWS - 1) * DIM] = tamisi_bf16_from_float(tamisi_bf16_to_float(kept) + 1);
    if (_i == 2) memcpy(output + 3 * ROWS * DIM, output, ROWS * DIM * sizeof *output);
    for (int i = 0; i < COUNT && _i == 3; i++)
        output[i] = tamisi_bf16_from_float(tamisi_bf16_to_float(output[i]) * 1.02f);
    ck_assert_int_eq(bench_check(&bench, &figure, &made.problem, &arrays), TAMIS_OK);
    ck_assert(!figure.right);
    free(workspace);
    tamis_plan_free(plan);
    shut_bench(&bench);
}
END_TEST

/* ---- the clock */

/* The fake GPU 1 under a fake NVML; then without. */
static void expect_clock(const void *argument)
{
    const char *fake = getenv("TAMIS_FAKE_CUDA");
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_context *context;
    struct nvml nvml;
    (void)argument;
    setenv("TAMIS_LIBCUDA", fake, 1);
    setenv("FAKE_CUDA_DEVICES", "2", 1);
    options.device = 1;
    child_expect(tamis_context_create(&context, &options) == TAMIS_OK, "%s", tamis_last_error());
    setenv("TAMIS_LIBNVML", fake, 1);
    nvml_open(&nvml, context);
    child_expect(nvml_sm_mhz(&nvml) == 1665, "%d MHz", nvml_sm_mhz(&nvml));
    setenv("FAKE_NVML_MHZ", "none", 1);
    child_expect(nvml_sm_mhz(&nvml) == 0, "%d MHz of none", nvml_sm_mhz(&nvml));
    nvml_close(&nvml);
    child_expect(nvml_sm_mhz(&nvml) == 0, "a clock after the end");
    static const char *const none[] = {"/nonexistent/libnvidia-ml.so.1", "libm.so.6"};
    for (int i = 0; i < 2; i++) {
        setenv("TAMIS_LIBNVML", none[i], 1);
        nvml_open(&nvml, context);
        child_expect(nvml_sm_mhz(&nvml) == 0, "a clock from %s", none[i]);
        nvml_close(&nvml);
    }
    tamis_context_free(context);
}

START_TEST(clock_of_a_gpu)
{
    if (getenv("TAMIS_FAKE_CUDA")) child_run(expect_clock, NULL);
}
END_TEST

/* What rows with structure add to a logit, as structured.h says: in the elements that are not random. */
static double logit_of(const struct structured *s, int head, long long query, long long key)
{
    float q[STRUCTURED_ELEMENTS], k[STRUCTURED_ELEMENTS];
    double sum = 0;
    structured_query(q, s, 9, head, query);
    structured_key(k, s, 9, head / 4, key, 128, 0);
    for (int i = 0; i < STRUCTURED_ELEMENTS; i++) sum += (double)q[i] * (double)k[i];
    return sum / sqrt(128);
}

START_TEST(structure)
{
    const struct structured sinks = {6, 0, 0, 4, 64, 0, 0}, local = {0, 24, 0, 4, 64, 0, 0}, hitters = {0, 0, 3, 4, 64, 0, 0};
    int hits = 0, alike = 0;
    for (int head = 0; head < 8; head++) {
        ck_assert_double_eq_tol(logit_of(&sinks, head, 5000, 3), 6, 1e-4);
        ck_assert_double_eq_tol(logit_of(&sinks, head, 5000, 4), 0, 1e-4);
        const double own = logit_of(&local, head, 70000, 70000); /* of 24, a half up to as much again */
        ck_assert(own > 11.9 && own < 36.1);
        ck_assert_double_lt(logit_of(&local, head, 70000, 69900), 0.8 * own);
        ck_assert_double_lt(logit_of(&local, head, 70000, 7), 0.5 * own);
        ck_assert_double_eq_tol(logit_of(&local, head, 900, 890), logit_of(&local, head, 70000, 69990), 2e-3 * own);
    }
    for (long long key = 0; key < 64000; key++) {
        const bool first = logit_of(&hitters, 0, 64000, key) > 1, second = logit_of(&hitters, 4, 64000, key) > 1;
        hits += first;
        alike += first && second; /* of another KV head */
    }
    ck_assert(hits > 850 && hits < 1150 && alike < 60);
}
END_TEST

/* Heavy hitters of two layers: all of them shared, half, or none; as many of each. */
START_TEST(layers_of_structure)
{
    struct structured first = {0, 0, 3, 4, 64, _i / 2.0, 0}, second = first;
    int hits = 0, alike = 0;
    second.layer = 1;
    for (long long key = 0; key < 64000; key++) {
        const bool a = logit_of(&first, 0, 64000, key) > 1, b = logit_of(&second, 0, 64000, key) > 1;
        hits += a;
        alike += a && b;
    }
    ck_assert(hits > 850 && hits < 1150);
    ck_assert_double_eq_tol((double)alike / hits, 1 - _i / 2.0, 0.06);
    if (_i == 0) ck_assert_int_eq(alike, hits);
}
END_TEST

Suite *bench_suite(void)
{
    Suite *suite = suite_create("bench");
    TCase *reading = tcase_create("peers"), *figures = tcase_create("figures");
    tcase_set_timeout(figures, 120);
    tcase_add_loop_test(reading, json_line, 0, (int)(sizeof lines / sizeof *lines));
    tcase_add_test(reading, best_of_peers);
    tcase_add_loop_test(reading, other_problems, 0, 6);
    tcase_add_loop_test(reading, bad_member, 0, (int)(sizeof bad_members / sizeof *bad_members));
    tcase_add_test(reading, bad_peer_files);
    tcase_add_test(figures, counts);
    tcase_add_loop_test(figures, figure_of_a_problem, 0, 5);
    tcase_add_test(figures, figures_together);
    tcase_add_test(figures, no_figure);
    tcase_add_test(figures, random_tensors);
    tcase_add_test(figures, structure);
    tcase_add_loop_test(figures, layers_of_structure, 0, 3);
    tcase_add_loop_test(figures, wrong_results, 0, 4);
    tcase_add_test(figures, clock_of_a_gpu);
    suite_add_tcase(suite, reading);
    suite_add_tcase(suite, figures);
    suite_add_tcase(suite, bench_operator_tests());
    suite_add_tcase(suite, bench_ablate_tests());
    return suite;
}
