/*
 * check.c: check_prefill GOLDEN [DEVICE STORE]: the prefill of small models against transformers' own logits (the folders of
 * GOLDEN), against reference.c, and against itself: chunks, sparse layers that keep all tokens, drifts. On the CPU; with
 * DEVICE, a GPU's number, and a store of kernels for head_dim 64, on that GPU too, and GPU against CPU.
 */
#include "reference.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_VOCABULARY 4096
#define LENGTH 320 /* tokens where the prompt is our own: some more than selection's window and least */
#define SEEDS 8    /* of roundings at random, for a prompt's scatter */
#define MOST 2e-2  /* that roundings may take one prompt's logits, whatever its scatter */
#define PROMPTS 8  /* of different lengths, whose distances are taken together */

static int failed;

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("check_prefill: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

__attribute__((format(printf, 2, 3))) static void check(bool holds, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs(holds ? "ok     " : "FAILED ", stdout);
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
    failed += !holds;
}

/* A model that is open on a device. */
struct bench {
    const char *device;
    struct backend backend;
    struct model model;
    struct weights weights;
    int32_t ids[LENGTH];
    int tokens;
};

/* A file of a folder. */
static FILE *open_file(const char *dir, const char *name)
{
    char path[4096];
    FILE *file = snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path ? fopen(path, "r") : NULL;
    if (!file) die("%s/%s is not there", dir, name);
    return file;
}

static void open_bench(struct bench *out, int device, const char *dir, tamis_dtype dtype)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path) die("%s: too long a name", dir);
    model_read(&out->model, path);
    out->model.dtype = dtype;
    if (device < 0) backend_cpu_open(&out->backend, 2, dtype);
    else backend_gpu_open(&out->backend, device, dtype);
    out->device = out->backend.table->name;
}

static void open_files(struct bench *out, int device, const char *dir, tamis_dtype dtype)
{
    FILE *file = open_file(dir, "ids.txt");
    open_bench(out, device, dir, dtype);
    weights_open(&out->weights, &out->backend, &out->model, dir, 0);
    for (out->tokens = 0; out->tokens < LENGTH && fscanf(file, "%d", &out->ids[out->tokens]) == 1;) out->tokens++;
    fclose(file);
}

static void open_random(struct bench *out, int device, const char *dir, tamis_dtype dtype)
{
    open_bench(out, device, dir, dtype);
    weights_open(&out->weights, &out->backend, &out->model, NULL, 7);
    out->tokens = LENGTH;
    for (int i = 0; i < LENGTH; i++) out->ids[i] = (int32_t)((unsigned)i * 2654435761u % (unsigned)out->model.vocabulary);
}

static void close_bench(struct bench *bench)
{
    weights_free(&bench->weights, &bench->backend, &bench->model);
    backend_close(&bench->backend);
}

static struct prefill_options options_of(const struct bench *bench, tamis_store *store)
{
    const tamis_problem published = TAMIS_PROBLEM_INIT;
    struct prefill_options options = {.tokens = bench->tokens, .store = store, .selection = published.selection,
                                      .chunk = bench->tokens, .hash_attention = true};
    options.selection.policy = TAMIS_RATIO;
    options.selection.ratio = 0.5;
    options.selection.min_tokens = 16;
    options.sparse[bench->model.layers - 1] = true; /* the last alone */
    return options;
}

/* One whose lists do not depend on data. */
static void set_pattern(struct prefill_options *options)
{
    const tamis_pattern published = TAMIS_PATTERN_INIT;
    options->pattern = published;
    options->pattern.kind = TAMIS_PATTERN_SLIDING;
    options->pattern.sliding.sink_tokens = 4;
    options->pattern.sliding.window_tokens = 20;
}

static void run(float *logits, struct prefill_result *result, struct bench *bench, const struct prefill_options *options,
                bool sparse, bool drift)
{
    struct prefill *prefill = prefill_open(&bench->backend, &bench->model, &bench->weights, options);
    prefill_run(prefill, bench->ids, sparse, drift, logits, result);
    prefill_free(prefill);
}

static double distance(const float *a, const double *b, int count)
{
    double squares[2] = {0, 0};
    for (int i = 0; i < count; i++) {
        squares[0] += pow((double)a[i] - b[i], 2);
        squares[1] += b[i] * b[i];
    }
    return sqrt(squares[0] / squares[1]);
}

static double drift_distance(const struct prefill_result *result, const double *drifts, int layers)
{
    double worst = 0;
    for (int i = 0; i < layers; i++) worst = fmax(worst, fabs(result->drift[i] / drifts[i] - 1));
    return worst;
}

/* ---- how far roundings may take logits */

/*
 * The reference's logits and drifts, and as a result the root mean square, over seeds, of how far those logits go when all that
 * is stored is rounded at random. A model and prompt have a scatter of their own. That of llama3_rope's file is 2.3 times that
 * of tied's, much of it from three numbers, whose last places are 1.6e-3 to 2.7e-3 of the logits' norm in fp16. So products
 * that add up in another order, and round a dozen numbers in a hundred thousand otherwise, take it from 1.5e-3 to 4.7e-3.
 *
 * Roundings to nearest scatter 1/sqrt(2) of that: one prompt's logits may be 2 scatters off, 2.8 times what is to be expected.
 * The mean of PROMPTS prompts varies less, and may be 1: they are 0.5 to 0.8 where all is right, and 1.1 to 3 where one kind of
 * numbers has bf16's bits in an fp16 prefill.
 */
static double scatter_of(double *exact, double *drifts, struct bench *bench)
{
    static double rounded[MOST_VOCABULARY];
    static float logits[MOST_VOCABULARY];
    double unused[MOST_LAYERS], squares = 0;
    reference_forward(exact, drifts, &bench->backend, &bench->model, &bench->weights, bench->ids, bench->tokens, 0);
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        reference_forward(rounded, unused, &bench->backend, &bench->model, &bench->weights, bench->ids, bench->tokens, seed);
        for (int i = 0; i < bench->model.vocabulary; i++) logits[i] = (float)rounded[i];
        squares += pow(distance(logits, exact, bench->model.vocabulary), 2) / SEEDS;
    }
    return sqrt(squares);
}

/* Beginnings of the prompt: the root mean square of their distances from the reference, each as a part of its scatter. */
static double prompts_distance(struct bench *bench, tamis_store *store)
{
    static float logits[MOST_VOCABULARY];
    static double exact[MOST_VOCABULARY];
    const int tokens = bench->tokens, count = bench->model.vocabulary;
    double drifts[MOST_LAYERS], squares = 0;
    struct prefill_result result;
    for (int i = 0; i < PROMPTS; i++) {
        bench->tokens = tokens - i * tokens / (PROMPTS + 1);
        const struct prefill_options options = options_of(bench, store);
        run(logits, &result, bench, &options, false, false);
        const double rounding = scatter_of(exact, drifts, bench);
        squares += pow(distance(logits, exact, count) / rounding, 2) / PROMPTS;
    }
    bench->tokens = tokens;
    return sqrt(squares);
}

/* ---- against transformers */

static void read_logits(double *out, const char *dir, int count)
{
    FILE *file = open_file(dir, "logits.txt");
    for (int i = 0; i < count; i++)
        if (fscanf(file, "%lf", &out[i]) != 1) die("%s has logits for %d tokens of %d", dir, i, count);
    fclose(file);
}

/* The reference rounds nothing, nor does transformers in float32; weights that are bf16 in the files are near those as fp16. */
static void check_golden(int device, tamis_store *store, const char *golden, const char *name, tamis_dtype dtype)
{
    static struct bench bench;
    static float logits[MOST_VOCABULARY];
    static double wanted[MOST_VOCABULARY], reference[MOST_VOCABULARY];
    const char *type = dtype == TAMIS_BF16 ? "bf16" : "fp16";
    double drifts[MOST_LAYERS];
    struct prefill_result result;
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/%s", golden, name);
    open_files(&bench, device, dir, dtype);
    const struct prefill_options options = options_of(&bench, store);
    const int count = bench.model.vocabulary;
    read_logits(wanted, dir, count);
    run(logits, &result, &bench, &options, false, true);
    const double rounding = scatter_of(reference, drifts, &bench), together = prompts_distance(&bench, store);
    double off = distance(logits, wanted, count);
    check(off <= fmin(2 * rounding, MOST), "%s: %s, %s: logits off transformers' by %.2e, roundings' scatter %.2e",
          bench.device, name, type, off, rounding);
    check(together <= 1, "%s: %s, %s: logits of %d prompts off the reference's by %.2f scatters", bench.device, name, type,
          PROMPTS, together);
    for (int i = 0; i < count; i++) logits[i] = (float)reference[i];
    off = distance(logits, wanted, count);
    check(off <= 1e-5, "%s: %s, %s: the reference's logits off transformers' by %.2e", bench.device, name, type, off);
    off = drift_distance(&result, drifts, bench.model.layers);
    check(off <= 2e-3, "%s: %s, %s: drifts off the reference's by %.2e", bench.device, name, type, off);
    close_bench(&bench);
}

/* ---- against itself */

static void check_random(int device, tamis_store *store, const char *dir, tamis_dtype dtype)
{
    static struct bench bench;
    static float logits[MOST_VOCABULARY];
    static double reference[MOST_VOCABULARY];
    const char *type = dtype == TAMIS_BF16 ? "bf16" : "fp16";
    double drifts[MOST_LAYERS];
    struct prefill_result dense, result;
    open_random(&bench, device, dir, dtype);
    struct prefill_options options = options_of(&bench, store);
    const int last = bench.model.layers - 1;
    run(logits, &dense, &bench, &options, false, true);
    const double rounding = scatter_of(reference, drifts, &bench);
    const double off = distance(logits, reference, bench.model.vocabulary);
    check(off <= fmin(2 * rounding, MOST), "%s, %s: logits off the reference's by %.2e, roundings' scatter %.2e",
          bench.device, type, off, rounding);

    run(NULL, &result, &bench, &options, true, false);
    check(result.attention_hash[0] == dense.attention_hash[0] && result.attention_hash[last] != dense.attention_hash[last],
          "%s, %s: attention is sparse in the sparse layer, and there alone", bench.device, type);
    const uint64_t sparse_hash = result.logits_hash, first_hash = result.attention_hash[0];
    set_pattern(&options);
    run(NULL, &result, &bench, &options, true, false);
    check(result.attention_hash[0] != first_hash && result.logits_hash != sparse_hash,
          "%s, %s: a pattern is in the dense layers of a sparse run too", bench.device, type);
    run(NULL, &result, &bench, &options, false, false);
    check(result.logits_hash == dense.logits_hash, "%s, %s: a dense run has no pattern", bench.device, type);
    options.pattern.kind = TAMIS_PATTERN_NONE;
    options.chunk = 37;
    run(NULL, &result, &bench, &options, true, false);
    if (device < 0) /* cuBLAS may take another kernel for fewer rows */
        check(result.logits_hash == sparse_hash, "%s, %s: chunks of the MLP change nothing", bench.device, type);
    options.chunk = bench.tokens;
    options.selection.ratio = 1;
    for (int i = 0; i <= last; i++) options.sparse[i] = true;
    run(NULL, &result, &bench, &options, true, false);
    check(memcmp(result.attention_hash, dense.attention_hash, sizeof dense.attention_hash) == 0 &&
          result.logits_hash == dense.logits_hash,
          "%s, %s: sparse layers that keep all tokens give the bits of dense ones", bench.device, type);
    close_bench(&bench);
}

/* ---- a GPU against the CPU */

static void check_devices(int device, tamis_store *store, const char *dir, tamis_dtype dtype)
{
    static struct bench benches[2];
    static float logits[2][MOST_VOCABULARY];
    static double wanted[MOST_VOCABULARY];
    struct prefill_result results[2];
    static const char *const modes[] = {"dense", "sparse", "sparse with a pattern"};
    const char *type = dtype == TAMIS_BF16 ? "bf16" : "fp16";
    double rounding = 0, drifts[MOST_LAYERS];
    for (int mode = 0; mode < 3; mode++) {
        const bool sparse = mode > 0;
        for (int i = 0; i < 2; i++) {
            open_random(&benches[i], i ? device : -1, dir, dtype);
            struct prefill_options options = options_of(&benches[i], i ? store : NULL);
            if (mode == 2) set_pattern(&options);
            run(logits[i], &results[i], &benches[i], &options, sparse, !sparse);
            if (!sparse && i == 0) rounding = scatter_of(wanted, drifts, &benches[i]);
            close_bench(&benches[i]);
        }
        for (int i = 0; i < benches[0].model.vocabulary; i++) wanted[i] = logits[0][i];
        const double off = distance(logits[1], wanted, benches[0].model.vocabulary);
        /* A token at the threshold may be chosen otherwise, where products round otherwise. */
        check(off <= (sparse ? 5e-2 : fmin(2 * rounding, MOST)), "GPU and CPU, %s, %s: logits apart by %.2e", type,
              modes[mode], off);
        if (sparse) continue;
        const double drift = drift_distance(&results[1], results[0].drift, benches[0].model.layers);
        check(drift <= 2e-3, "GPU and CPU, %s: drifts apart by %.2e", type, drift);
    }
}

static void check_device(int device, tamis_store *store, const char *golden)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/llama3_rope", golden);
    for (int dtype = TAMIS_BF16; dtype <= TAMIS_FP16; dtype++) {
        check_golden(device, store, golden, "llama3_rope", (tamis_dtype)dtype);
        check_golden(device, store, golden, "tied", (tamis_dtype)dtype);
        check_random(device, store, dir, (tamis_dtype)dtype);
    }
}

int main(int argc, char **argv)
{
    char dir[4096];
    tamis_store *store = NULL;
    if (argc != 2 && argc != 4) die("usage: check_prefill GOLDEN [DEVICE STORE]");
    check_device(-1, NULL, argv[1]);
    if (argc == 4) {
        const int device = atoi(argv[2]);
        need(tamis_store_open(&store, argv[3], NULL), "the store");
        check_device(device, store, argv[1]);
        snprintf(dir, sizeof dir, "%s/tied", argv[1]);
        check_devices(device, store, dir, TAMIS_BF16);
        check_devices(device, store, dir, TAMIS_FP16);
        tamis_store_free(store);
    }
    return failed > 0;
}
