/*
 * check_drift.c: representation drift: the CPU's sums against plain ones, what calls refuse, the layers at a quantile, the
 * published lists among them; and how a GPU's kernel is found and launched, on the fake libcuda.
 */
#define _XOPEN_SOURCE 700

#include "drift.h"
#include "gpu_plan_case.h"
#include "half.h"

#include <math.h>
#include <stdint.h>

Suite *drift_suite(void);

enum { LAYERS = 3, ROWS = 700, MOST_WIDTH = 100, STRIDE = 104 };

static uint16_t hidden[LAYERS + 1][ROWS * STRIDE];
static tamis_context *context;
static tamis_drift *drift;
static struct tamisi_drift_layer state[LAYERS];

static void must(tamis_status status) { ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error()); }

static void expect(tamis_status status, tamis_status wanted, const char *text)
{
    ck_assert_msg(status == wanted, "%s: %s", tamis_status_name(status), tamis_last_error());
    ck_assert_msg(strstr(tamis_last_error(), text) != NULL, "\"%s\" lacks \"%s\"", tamis_last_error(), text);
}

static float value_at(int layer, int row, int column)
{
    return (float)sin(0.37 * row + 1.3 * column) * (float)(1 + row % 7) + 0.25f * (float)layer * (float)cos(row + 2.0 * column);
}

static void fill(tamis_dtype dtype)
{
    for (int layer = 0; layer <= LAYERS; layer++)
        for (int row = 0; row < ROWS; row++)
            for (int column = 0; column < STRIDE; column++) /* what lies behind the width would spoil a sum */
                hidden[layer][row * STRIDE + column] =
                    column < MOST_WIDTH ? tamisi_half_from_float(value_at(layer, row, column), dtype) : 0x7fff;
}

static void open_drift(tamis_dtype dtype, int threads, int64_t width)
{
    tamis_context_options options = TAMIS_CONTEXT_OPTIONS_INIT;
    options.device = TAMIS_DEVICE_CPU;
    options.cpu_threads = threads;
    must(tamis_context_create(&context, &options));
    must(tamis_drift_create(&drift, context, NULL, dtype, LAYERS, width));
    ck_assert_uint_eq(tamis_drift_state_bytes(drift), sizeof state);
    memset(state, 0x7f, sizeof state);
    must(tamis_drift_reset(drift, state, NULL));
}

static void close_drift(void)
{
    tamis_drift_free(drift);
    tamis_context_free(context);
}

static void add_all(int first, int rows)
{
    for (int layer = 0; layer < LAYERS; layer++)
        must(tamis_drift_add(drift, state, layer, hidden[layer] + first * STRIDE, STRIDE, hidden[layer + 1] + first * STRIDE,
                             STRIDE, rows, NULL));
}

/* The definition, by long double sums in the order of rows. */
static void define(double *out, int rows, int width, tamis_dtype dtype)
{
    long double means[LAYERS], total = 0;
    for (int layer = 0; layer < LAYERS; layer++) {
        means[layer] = 0;
        for (int row = 0; row < rows; row++) {
            long double change = 0, before = 0;
            for (int i = row * STRIDE; i < row * STRIDE + width; i++) {
                const long double x = tamisi_half_to_float(hidden[layer][i], dtype);
                const long double y = tamisi_half_to_float(hidden[layer + 1][i], dtype);
                change += (y - x) * (y - x);
                before += x * x;
            }
            means[layer] += sqrtl(change) / (sqrtl(before) + 1e-8L) / rows;
        }
        total += means[layer];
    }
    for (int layer = 0; layer < LAYERS; layer++) out[layer] = (double)(means[layer] / total);
}

static const struct shape {
    tamis_dtype dtype;
    int rows, width, threads;
} shapes[] = {{TAMIS_BF16, ROWS, MOST_WIDTH, 3}, {TAMIS_FP16, ROWS, 96, 1}, {TAMIS_BF16, 1, 1, 2}, {TAMIS_FP16, 257, 33, 4}};

START_TEST(test_definition)
{
    const struct shape *shape = &shapes[_i];
    double drifts[LAYERS], wanted[LAYERS];
    fill(shape->dtype);
    open_drift(shape->dtype, shape->threads, shape->width);
    add_all(0, shape->rows);
    must(tamis_drift_read(drifts, drift, state, NULL));
    define(wanted, shape->rows, shape->width, shape->dtype);
    for (int i = 0; i < LAYERS; i++) ck_assert_double_eq_tol(drifts[i], wanted[i], 1e-13);
    close_drift();
}
END_TEST

/* Chunks of a prompt add up, in whichever way it is cut; equal calls give equal bits whatever the number of threads. */
START_TEST(test_chunks)
{
    static struct tamisi_drift_layer first[LAYERS];
    double whole[LAYERS], parts[LAYERS];
    fill(TAMIS_BF16);
    open_drift(TAMIS_BF16, 1, MOST_WIDTH);
    add_all(0, ROWS);
    must(tamis_drift_read(whole, drift, state, NULL));
    must(tamis_drift_reset(drift, state, NULL));
    add_all(0, 300);
    add_all(300, 0);
    add_all(300, ROWS - 300);
    must(tamis_drift_read(parts, drift, state, NULL));
    for (int i = 0; i < LAYERS; i++) ck_assert_double_eq_tol(parts[i], whole[i], 1e-14);
    memcpy(first, state, sizeof state);
    close_drift();
    open_drift(TAMIS_BF16, 4, MOST_WIDTH);
    add_all(0, 300);
    add_all(300, ROWS - 300);
    ck_assert_int_eq(memcmp(first, state, sizeof state), 0);
    ck_assert_int_eq(state[LAYERS - 1].counted, ROWS);
    close_drift();
}
END_TEST

START_TEST(test_arguments)
{
    tamis_drift *none;
    double drifts[LAYERS] = {-1, -1, -1};
    const uint16_t *in = hidden[0], *out = hidden[1];
    fill(TAMIS_BF16);
    open_drift(TAMIS_BF16, 1, MOST_WIDTH);
    expect(tamis_drift_create(NULL, context, NULL, TAMIS_BF16, 1, 1), TAMIS_EINVAL, "out: is NULL");
    expect(tamis_drift_create(&none, NULL, NULL, TAMIS_BF16, 1, 1), TAMIS_EINVAL, "context: is NULL");
    expect(tamis_drift_create(&none, context, NULL, (tamis_dtype)2, 1, 1), TAMIS_EINVAL, "dtype is 2");
    expect(tamis_drift_create(&none, context, NULL, TAMIS_BF16, 1025, 1), TAMIS_EINVAL, "layers is 1025");
    expect(tamis_drift_create(&none, context, NULL, TAMIS_BF16, 1, 0), TAMIS_EINVAL, "width is 0");
    ck_assert_ptr_null(none);
    expect(tamis_drift_reset(NULL, state, NULL), TAMIS_EINVAL, "drift: is NULL");
    expect(tamis_drift_reset(drift, NULL, NULL), TAMIS_EINVAL, "state: is NULL");
    expect(tamis_drift_reset(drift, (char *)state + 4, NULL), TAMIS_EINVAL, "state: must be aligned");
    expect(tamis_drift_reset(drift, state, (tamis_stream)(void *)state), TAMIS_EINVAL, "stream: is not NULL");
    expect(tamis_drift_add(drift, state, LAYERS, in, STRIDE, out, STRIDE, 1, NULL), TAMIS_EINVAL, "layer is 3");
    expect(tamis_drift_add(drift, state, 0, in, STRIDE, out, STRIDE, -1, NULL), TAMIS_EINVAL, "rows is -1");
    expect(tamis_drift_add(drift, state, 0, NULL, STRIDE, out, STRIDE, 1, NULL), TAMIS_EINVAL, "h_in: is NULL");
    expect(tamis_drift_add(drift, state, 0, in, STRIDE, (const char *)out + 1, STRIDE, 1, NULL), TAMIS_EINVAL, "h_out: must");
    expect(tamis_drift_add(drift, state, 0, in, 99, out, STRIDE, 1, NULL), TAMIS_EINVAL, "h_in_stride is 99");
    expect(tamis_drift_add(drift, state, 0, in, STRIDE, out, STRIDE, INT64_MAX / 2, NULL), TAMIS_EINVAL, "h_in: its rows");
    expect(tamis_drift_read(NULL, drift, state, NULL), TAMIS_EINVAL, "out: is NULL");
    expect(tamis_drift_read(drifts, drift, state, NULL), TAMIS_EINVAL, "layer 0 has no rows");
    ck_assert_double_eq(drifts[0], -1);
    ck_assert_uint_eq(tamis_drift_state_bytes(NULL), 0);
    tamis_drift_free(NULL);
    close_drift();
}
END_TEST

START_TEST(test_not_finite)
{
    double drifts[LAYERS];
    fill(TAMIS_BF16);
    open_drift(TAMIS_BF16, 2, MOST_WIDTH);
    hidden[2][5] = 0x7f80; /* an infinity after layer 1 and before layer 2 */
    add_all(0, ROWS);
    expect(tamis_drift_read(drifts, drift, state, NULL), TAMIS_EINVAL, "layer 1 is not finite");
    must(tamis_drift_reset(drift, state, NULL));
    for (int layer = 0; layer < LAYERS; layer++)
        must(tamis_drift_add(drift, state, layer, hidden[0], STRIDE, hidden[0], STRIDE, ROWS, NULL));
    expect(tamis_drift_read(drifts, drift, state, NULL), TAMIS_EINVAL, "no layer drifts at all");
    close_drift();
}
END_TEST

/* ---- the choice of layers */

/* By the definition: how many are at or below numpy's quantile. Values are small whole numbers, so that all is exact. */
static const struct quantile {
    int count;
    double values[6], delta;
    const char *layers;
} quantiles[] = {
    {1, {7}, 0, "0 "},          {1, {7}, 0.5, "0 "},           {2, {1, 2}, 0.5, "0 "},      {2, {2, 1}, 0.5, "1 "},
    {3, {3, 1, 2}, 0.5, "1 2 "}, {4, {4, 3, 2, 1}, 0.5, "2 3 "}, {4, {1, 1, 1, 2}, 0.5, "0 1 2 "},
    {4, {5, 5, 5, 5}, 0, "0 1 2 3 "},
    {5, {1, 2, 3, 4, 5}, 1, "0 1 2 3 4 "}, {5, {1, 2, 3, 4, 5}, 0.25, "0 1 "}, {5, {1, 2, 3, 4, 5}, 0.24, "0 "},
    {6, {0, 0, 9, 9, 9, 9}, 0.3, "0 1 "}, {6, {0, 0, 9, 9, 9, 9}, 0.2, "0 1 "}, {6, {0, 0, 9, 9, 9, 9}, 0.4, "0 1 2 3 4 5 "}};

START_TEST(test_quantile)
{
    const struct quantile *q = &quantiles[_i];
    int32_t sparse[6];
    size_t needed;
    char text[64] = "";
    must(tamis_drift_layers(sparse, 6, &needed, q->values, (size_t)q->count, q->delta));
    for (size_t i = 0; i < needed; i++) sprintf(text + strlen(text), "%d ", sparse[i]);
    ck_assert_str_eq(text, q->layers);
}
END_TEST

/* Drifts that fall towards the published layers, so that these are the flatter half: the last layers rise again. */
START_TEST(test_published)
{
    static const struct {
        int layers;
        const char *sparse;
    } models[] = {{32, "15-30"}, {40, "14,15,20-37"}};
    int32_t chosen[40], wanted[40];
    size_t needed, count = 0;
    double drifts[40];
    int layers = models[_i].layers;
    bool flat[40] = {false};
    for (int i = 0; i < layers; i++)
        flat[i] = layers == 32 ? i >= 15 && i <= 30 : i == 14 || i == 15 || (i >= 20 && i <= 37);
    for (int i = 0; i < layers; i++) {
        drifts[i] = (flat[i] ? 0.01 : 0.03) - 1e-4 * i;
        if (flat[i]) wanted[count++] = i;
    }
    must(tamis_drift_layers(NULL, 0, &needed, drifts, (size_t)layers, 0.5));
    ck_assert_uint_eq(needed, (size_t)layers / 2);
    must(tamis_drift_layers(chosen, 40, &needed, drifts, (size_t)layers, 0.5));
    ck_assert_uint_eq(needed, count);
    ck_assert_int_eq(memcmp(chosen, wanted, count * sizeof *wanted), 0);
}
END_TEST

START_TEST(test_layers_arguments)
{
    const double drifts[] = {1, 2, -1, NAN};
    int32_t sparse[1] = {-1};
    size_t needed = 99;
    expect(tamis_drift_layers(NULL, 1, &needed, drifts, 2, 0.5), TAMIS_EINVAL, "sparse: is NULL");
    expect(tamis_drift_layers(sparse, 1, &needed, NULL, 2, 0.5), TAMIS_EINVAL, "drifts: is NULL");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts, 0, 0.5), TAMIS_EINVAL, "layers is 0");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts, (size_t)-1, 0.5), TAMIS_EINVAL, "layers is 1025");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts, 2, 1.5), TAMIS_EINVAL, "delta is 1.5");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts, 2, NAN), TAMIS_EINVAL, "delta is");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts, 3, 0.5), TAMIS_EINVAL, "layer 2 is -1");
    expect(tamis_drift_layers(sparse, 1, &needed, drifts + 3, 1, 0.5), TAMIS_EINVAL, "layer 0 is nan");
    ck_assert_int_eq(sparse[0], -1);
    ck_assert_uint_eq(needed, 99);
    must(tamis_drift_layers(sparse, 1, NULL, drifts, 2, 1));
    ck_assert_int_eq(sparse[0], 0);
}
END_TEST

/* ---- the GPU's side */

/* A drift variant into the test's store. */
static void put_variant(const char *arch, int abi, const char *stage)
{
    tamis_store *store;
    struct tamisi_variant variant = {.dtype = TAMIS_BF16, .abi = abi, .entry_count = 1};
    char source[] = "extern \"C\" __global__ void k_drift() {}\n", data[] = "cubin of drift", options[TAMISI_OPTIONS_SIZE];
    struct tamisi_compiled compiled = {.cubin = data, .cubin_bytes = sizeof data, .resource_count = 1};
    snprintf(variant.spec, sizeof variant.spec, "model");
    snprintf(variant.family, sizeof variant.family, "drift");
    snprintf(variant.name, sizeof variant.name, "drift_bf16");
    snprintf(variant.arch, sizeof variant.arch, "%s", arch);
    variant.entries[0] = (struct tamisi_entry){.symbol = "k_drift", .threads = 320, .block_m = 10};
    snprintf(variant.entries[0].stage, sizeof variant.entries[0].stage, "%s", stage);
    snprintf(compiled.resources[0].symbol, sizeof compiled.resources[0].symbol, "k_drift");
    variant.source = tamisi_hash_bytes(source, strlen(source));
    tamisi_compile_options(options, arch);
    must(tamis_store_open(&store, folder_file("a.tamis"), NULL));
    must(tamisi_store_put_source(store, &variant.source, variant.name, source));
    must(tamisi_store_put_variant(store, &variant));
    must(tamisi_store_put_cubin(store, &variant.source, arch, options, "nvrtc 13.0 of a test", &compiled));
    tamis_store_free(store);
}

static struct {
    int launches;
    struct tamis_drift_args args;
    struct fake_cuda_launch launch;
    char symbol[64];
} seen;

static void note_launch(void *payload, const struct fake_cuda_launch *launch)
{
    (void)payload;
    seen.launches++;
    seen.launch = *launch;
    memcpy(&seen.args, launch->params[0], sizeof seen.args);
    snprintf(seen.symbol, sizeof seen.symbol, "%s", launch->symbol);
}

#define AT(number) ((uintptr_t)(number) << 40)

static void add_on_gpu(const tamis_drift *gpu_drift, tamis_context *gpu, void *memory)
{
    tamis_stream stream;
    bench_must(tamis_stream_create(&stream, gpu), "stream");
    bench_must(tamis_drift_reset(gpu_drift, memory, stream), "reset");
    bench_must(tamis_drift_add(gpu_drift, memory, 5, (void *)AT(1), 5000, (void *)AT(2), 4100, 131072, stream), "add");
    child_expect(seen.launches == 1 && strcmp(seen.symbol, "k_drift") == 0, "%d launches, of %s", seen.launches, seen.symbol);
    child_expect(seen.launch.grid[0] == TAMIS_DRIFT_BLOCKS && seen.launch.grid[1] == 1 && seen.launch.grid[2] == 1, "grid");
    child_expect(seen.launch.block[0] == 320 && seen.launch.block[1] == 1 && seen.launch.shared_bytes == 0, "block");
    child_expect(seen.launch.stream == stream && !seen.launch.starts_early, "stream");
    child_expect(seen.launch.cleared == (uintptr_t)memory &&
                     seen.launch.cleared_bytes == 32 * sizeof(struct tamisi_drift_layer),
                 "cleared %zu bytes at %llx", seen.launch.cleared_bytes, seen.launch.cleared);
    const struct tamisi_drift_layer *layer = (struct tamisi_drift_layer *)memory + 5;
    child_expect(seen.args.h_in == (void *)AT(1) && seen.args.h_out == (void *)AT(2), "hidden states");
    child_expect(seen.args.in_stride == 5000 && seen.args.out_stride == 4100, "strides");
    child_expect(seen.args.rows == 131072 && seen.args.width == 4096, "rows and width");
    child_expect(seen.args.sums == layer->sums && seen.args.counted == &layer->counted, "state");
    tamis_stream_free(gpu, stream);
}

static void gpu_launch_body(const void *argument)
{
    struct gpu_bench bench;
    tamis_drift *gpu_drift;
    void *memory;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    bench.watch(note_launch, NULL);
    bench_must(tamis_drift_create(&gpu_drift, bench.context, bench.store, TAMIS_BF16, 32, 4096), "drift");
    bench_must(tamis_memory_alloc(&memory, bench.context, tamis_drift_state_bytes(gpu_drift)), "state");
    add_on_gpu(gpu_drift, bench.context, memory);
    double drifts[32];
    child_expect(tamis_drift_read(drifts, gpu_drift, memory, NULL) == TAMIS_EINVAL, "the fake adds nothing");
    child_expect(strstr(tamis_last_error(), "layer 0 has no rows") != NULL, "%s", tamis_last_error());
    tamis_memory_free(bench.context, memory);
    tamis_drift_free(gpu_drift);
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_gpu_launch)
{
    gpu_plan_make_store(&(struct store_plan){NULL});
    put_variant("sm_90a", TAMIS_KERNEL_ABI, "drift");
    child_run(gpu_launch_body, NULL);
}
END_TEST

/* A store that is older than the kernel, one for another GPU, another library's, and a damaged idea of the stage. */
static void gpu_absent_body(const void *argument)
{
    const tamis_dtype dtype = argument ? TAMIS_FP16 : TAMIS_BF16;
    struct gpu_bench bench;
    tamis_drift *gpu_drift;
    bench_environment(NULL);
    bench_open(&bench);
    child_expect(tamis_drift_create(&gpu_drift, bench.context, NULL, dtype, 32, 4096) == TAMIS_EINVAL, "no store");
    child_expect(tamis_drift_create(&gpu_drift, bench.context, bench.store, dtype, 32, 4096) == TAMIS_ENOTFOUND, "status");
    child_expect(strstr(tamis_last_error(), "no drift kernel for ") != NULL, "%s", tamis_last_error());
    child_expect(strstr(tamis_last_error(), "sm_90a: run tamis gen again") != NULL, "%s", tamis_last_error());
    child_expect(gpu_drift == NULL, "a handle");
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_gpu_absent)
{
    gpu_plan_make_store(&(struct store_plan){NULL});
    if (_i == 1) put_variant("sm_80", TAMIS_KERNEL_ABI, "drift");
    if (_i == 2) put_variant("sm_90a", TAMIS_KERNEL_ABI + 1, "drift");
    if (_i == 3) put_variant("sm_90a", TAMIS_KERNEL_ABI, "attend");
    if (_i == 4) put_variant("sm_90a", TAMIS_KERNEL_ABI, "drift"); /* for bf16 alone */
    child_run(gpu_absent_body, _i == 4 ? "fp16" : NULL);
}
END_TEST

/* Whichever driver call fails, what is open is closed again. */
static void gpu_fault_body(const void *argument)
{
    static const char *const functions[] = {"cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelGetFunction",
                                            "cuLaunchKernelEx", "cuMemsetD8Async", "cuCtxPushCurrent_v2"};
    struct gpu_bench bench;
    (void)argument;
    bench_environment(NULL);
    bench_open(&bench);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        tamis_drift *gpu_drift;
        void *memory = NULL;
        bench_must(tamis_memory_alloc(&memory, bench.context, 1 << 20), "memory");
        bench.inject(functions[i], 1, 700);
        tamis_status status = tamis_drift_create(&gpu_drift, bench.context, bench.store, TAMIS_BF16, 32, 4096);
        if (status == TAMIS_OK) status = tamis_drift_reset(gpu_drift, memory, NULL);
        if (status == TAMIS_OK) status = tamis_drift_add(gpu_drift, memory, 0, memory, 4096, memory, 4096, 1, NULL);
        child_expect(status == TAMIS_ECUDA, "%s: %s", functions[i], tamis_status_name(status));
        bench.inject(NULL, 0, 0);
        tamis_drift_free(gpu_drift);
        tamis_memory_free(bench.context, memory);
    }
    bench_close(&bench);
    bench_expect_closed(&bench);
}

START_TEST(test_gpu_fault)
{
    gpu_plan_make_store(&(struct store_plan){NULL});
    put_variant("sm_90a", TAMIS_KERNEL_ABI, "drift");
    child_run(gpu_fault_body, NULL);
}
END_TEST

Suite *drift_suite(void)
{
    Suite *suite = suite_create("drift");
    TCase *cpu = tcase_create("cpu"), *choice = tcase_create("choice"), *gpu = tcase_create("gpu");
    tcase_add_loop_test(cpu, test_definition, 0, (int)(sizeof shapes / sizeof *shapes));
    tcase_add_test(cpu, test_chunks);
    tcase_add_test(cpu, test_arguments);
    tcase_add_test(cpu, test_not_finite);
    tcase_add_loop_test(choice, test_quantile, 0, (int)(sizeof quantiles / sizeof *quantiles));
    tcase_add_loop_test(choice, test_published, 0, 2);
    tcase_add_test(choice, test_layers_arguments);
    tcase_add_checked_fixture(gpu, gpu_plan_set_up, folder_remove);
    tcase_set_timeout(gpu, 60);
    tcase_add_test(gpu, test_gpu_launch);
    tcase_add_loop_test(gpu, test_gpu_absent, 0, 5);
    tcase_add_test(gpu, test_gpu_fault);
    suite_add_tcase(suite, cpu);
    suite_add_tcase(suite, choice);
    suite_add_tcase(suite, gpu);
    return suite;
}
