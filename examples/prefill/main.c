/*
 * main.c: prefill: a whole model's time to the first token, dense and with token-sparse attention in some layers. Reads the
 * options, opens device, store and weights, runs, reports.
 */
#define _GNU_SOURCE
#include "cuda_api.h"
#include "report.h"

#include <getopt.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: prefill [--store STORE] [option...]\n"
    "\n"
    "Run the prefill of a Llama-family decoder, by cuBLAS and libtamis on a GPU or in plain C on the CPU, all layers dense\n"
    "and then some of them sparse, with the spec's block pattern, if it names one, in all of them, and print the time to the\n"
    "first token, what each layer's stages take, and memory.\n"
    "\n"
    "      --store STORE    kernels and the spec, as 'tamis gen' writes them; needed on a GPU\n"
    "      --spec NAME      the spec of a store of several\n"
    "      --weights DIR    a model's folder: config.json and safetensors; without, random weights\n"
    "      --config FILE    sizes for random weights, a config.json; without, those of Llama-3.1-8B\n"
    "      --tokens N       of the prompt; default: 4096\n"
    "      --ids FILE       the prompt's token ids, in text; default: random ones\n"
    "      --ratio R        keep this part of the tokens before the window; default: the spec's own selection\n"
    "      --min-tokens N   never keep fewer before the window; default: the spec's\n"
    "      --layers LIST    sparse layers, as in 14,15,20-37; default: the spec's\n"
    "      --no-pattern     leave the spec's block pattern out\n"
    "      --mode MODE      dense, sparse or both, which is the default\n"
    "      --peer-ms X      what a layer's dense attention takes elsewhere, as examples/bench/peers.py measures it: prints\n"
    "                       the first token's time with that in place of ours\n"
    "      --drift FILE     measure each layer's drift in a dense run, and write it for 'tamis layers'\n"
    "      --chunk N        tokens that the MLP handles at a time; default: 8192\n"
    "      --repeat N       runs of which the fastest counts, after one that does not; default: 1\n"
    "      --hash-attention hashes of each layer's attention, in the JSON; spoils the times\n"
    "      --device N       a GPU's number, or cpu; default: 0\n"
    "      --seed N         of random weights and ids; default: 1\n"
    "      --find-cublas    only see whether cuBLAS is to be had: exit code 0, or 1 and why not\n"
    "      --json           one JSON object\n";

struct arguments {
    const char *store, *spec, *weights, *config, *ids, *layers, *mode, *drift;
    long long tokens, chunk, repeat, device, seed, min_tokens; /* device -1: the CPU; min_tokens -1: not given */
    double ratio, peer_ms;                                     /* 0: not given */
    bool json, hash_attention, no_pattern;
};

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("prefill: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- options */

static void bad_usage(const char *option, const char *value, const char *wanted)
{
    fprintf(stderr, "prefill: --%s: \"%s\" is no %s\n", option, value, wanted);
    exit(2);
}

static long long whole(const char *option, const char *value, long long least, long long most)
{
    char *end, wanted[80];
    errno = 0;
    const long long number = strtoll(value, &end, 10);
    snprintf(wanted, sizeof wanted, "whole number from %lld to %lld", least, most);
    if (errno || end == value || *end || number < least || number > most) bad_usage(option, value, wanted);
    return number;
}

static double real(const char *option, const char *value, double most)
{
    char *end, wanted[80];
    const double number = strtod(value, &end);
    snprintf(wanted, sizeof wanted, "number above 0, up to %g", most);
    if (end == value || *end || !(number > 0 && number <= most)) bad_usage(option, value, wanted);
    return number;
}

enum { STORE = 256, SPEC, WEIGHTS, CONFIG, TOKENS, IDS, RATIO, LEAST, LAYERS, MODE, DRIFT, CHUNK, REPEAT, HASHES, DEVICE,
      SEED, JSON, FIND, PEER, NO_PATTERN };
static const struct option options[] = {
    {"store", 1, NULL, STORE},       {"spec", 1, NULL, SPEC},     {"weights", 1, NULL, WEIGHTS}, {"config", 1, NULL, CONFIG},
    {"tokens", 1, NULL, TOKENS},     {"ids", 1, NULL, IDS},       {"ratio", 1, NULL, RATIO},     {"min-tokens", 1, NULL, LEAST},
    {"layers", 1, NULL, LAYERS},     {"mode", 1, NULL, MODE},     {"drift", 1, NULL, DRIFT},     {"chunk", 1, NULL, CHUNK},
    {"repeat", 1, NULL, REPEAT},     {"hash-attention", 0, NULL, HASHES}, {"device", 1, NULL, DEVICE}, {"seed", 1, NULL, SEED},
    {"json", 0, NULL, JSON},         {"find-cublas", 0, NULL, FIND}, {"peer-ms", 1, NULL, PEER}, {"help", 0, NULL, 'h'},
    {"no-pattern", 0, NULL, NO_PATTERN}, {NULL, 0, NULL, 0}};

static void find_cublas(void)
{
    struct cublas_api cublas;
    cublas_api_open(&cublas);
}

static void read_option(struct arguments *given, int option, const char *value)
{
    switch (option) {
    case STORE: given->store = value; break;
    case SPEC: given->spec = value; break;
    case WEIGHTS: given->weights = value; break;
    case CONFIG: given->config = value; break;
    case IDS: given->ids = value; break;
    case LAYERS: given->layers = value; break;
    case MODE: given->mode = value; break;
    case DRIFT: given->drift = value; break;
    case TOKENS: given->tokens = whole("tokens", value, 1, 1 << 24); break;
    case CHUNK: given->chunk = whole("chunk", value, 1, 1 << 24); break;
    case REPEAT: given->repeat = whole("repeat", value, 1, 1000); break;
    case SEED: given->seed = whole("seed", value, 0, 0xffffffff); break;
    case LEAST: given->min_tokens = whole("min-tokens", value, 0, 1 << 24); break;
    case RATIO: given->ratio = real("ratio", value, 1); break;
    case PEER: given->peer_ms = real("peer-ms", value, 1e6); break;
    case DEVICE: given->device = strcmp(value, "cpu") == 0 ? -1 : whole("device", value, 0, 1023); break;
    case HASHES: given->hash_attention = true; break;
    case JSON: given->json = true; break;
    case NO_PATTERN: given->no_pattern = true; break;
    case 'h': fputs(usage, stdout); exit(0);
    case FIND: find_cublas(); exit(0);
    default: fputs("prefill: --help tells what there is\n", stderr); exit(2);
    }
}

static void read_arguments(struct arguments *given, int argc, char **argv)
{
    int option;
    *given = (struct arguments){.mode = "both", .tokens = 4096, .chunk = 8192, .repeat = 1, .seed = 1, .min_tokens = -1};
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) read_option(given, option, optarg);
    if (optind < argc) bad_usage("help", argv[optind], "option");
    if (strcmp(given->mode, "dense") && strcmp(given->mode, "sparse") && strcmp(given->mode, "both"))
        bad_usage("mode", given->mode, "dense, sparse or both");
    if (given->weights && given->config) bad_usage("config", given->config, "option beside --weights, which has its own");
    if (given->drift && strcmp(given->mode, "sparse") == 0) bad_usage("drift", given->drift, "option beside --mode sparse");
    if (!given->store && given->device >= 0) bad_usage("device", "a GPU", "device without --store");
}

/* ---- what is run */

static void read_model(struct model *out, const struct arguments *given)
{
    char path[4096];
    if (given->weights && snprintf(path, sizeof path, "%s/config.json", given->weights) >= (int)sizeof path)
        die("--weights: too long a name");
    if (given->weights || given->config) model_read(out, given->weights ? path : given->config);
    else model_llama_8b(out);
}

static void mark_layers(bool *sparse, int layers, const char *list)
{
    while (*list) {
        char *end;
        const long first = strtol(list, &end, 10);
        long last = first;
        bool good = end != list;
        if (good && *end == '-') {
            list = end + 1;
            last = strtol(list, &end, 10);
            good = end != list;
        }
        if (!good || first < 0 || last < first || last >= layers || (*end != ',' && *end != '\0'))
            die("--layers: layers from 0 to %d, as in 14,15,20-37, would be right", layers - 1);
        for (long i = first; i <= last; i++) sparse[i] = true;
        list = *end ? end + 1 : end;
    }
}

/* Selection, pattern and sparse layers from the spec, as far as options do not say otherwise. */
static void read_spec(struct prefill_options *out, const struct model *model, const struct arguments *given)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    int32_t layers, sparse[MOST_LAYERS];
    size_t count;
    need(tamis_store_problem(&problem, out->store, given->spec), "the spec");
    if (problem.q_heads != model->heads || problem.kv_heads != model->kv_heads || problem.head_dim != model->head_dim)
        fprintf(stderr, "prefill: the spec is of %d and %d heads of %d, the model of %d and %d of %d: its selection is taken\n",
                problem.q_heads, problem.kv_heads, problem.head_dim, model->heads, model->kv_heads, model->head_dim);
    out->selection = problem.selection;
    if (!given->no_pattern) need(tamis_store_pattern(&out->pattern, out->store, given->spec), "the spec");
    if (given->layers) return;
    need(tamis_store_layers(&layers, sparse, MOST_LAYERS, &count, out->store, given->spec), "the spec");
    if (count == 0 && out->pattern.kind == TAMIS_PATTERN_NONE && strcmp(given->mode, "dense") != 0)
        die("the spec names no sparse layers: --layers would");
    for (size_t i = 0; i < count && i < MOST_LAYERS; i++) {
        if (sparse[i] >= model->layers)
            die("the spec has a sparse layer %d, the model %d layers", (int)sparse[i], model->layers);
        out->sparse[sparse[i]] = true;
    }
}

static void read_options(struct prefill_options *out, const struct model *model, const struct arguments *given)
{
    const tamis_problem published = TAMIS_PROBLEM_INIT;
    const tamis_pattern none = TAMIS_PATTERN_INIT;
    *out = (struct prefill_options){.tokens = given->tokens, .chunk = given->chunk, .hash_attention = given->hash_attention,
                                    .selection = published.selection, .pattern = none};
    if (given->chunk > given->tokens) out->chunk = given->tokens;
    if (given->store) need(tamis_store_open(&out->store, given->store, NULL), "--store");
    if (given->store) read_spec(out, model, given);
    if (given->layers) mark_layers(out->sparse, model->layers, given->layers);
    if (given->ratio > 0) {
        out->selection.policy = TAMIS_RATIO;
        out->selection.ratio = given->ratio;
    }
    if (given->min_tokens >= 0) out->selection.min_tokens = given->min_tokens;
}

static int32_t *make_ids(const struct model *model, const struct arguments *given)
{
    int32_t *ids = malloc((size_t)given->tokens * sizeof *ids);
    FILE *file = given->ids ? fopen(given->ids, "r") : NULL;
    if (!ids) die("out of memory for the prompt");
    if (given->ids && !file) die("%s: %s", given->ids, strerror(errno));
    for (long long i = 0; i < given->tokens; i++) {
        const double uniform = (double)prefill_random((uint32_t)given->seed + 1000003u, (uint64_t)i, 0.2886751f); /* +- 1/2 */
        long id = (long)((0.5 + uniform) * model->vocabulary);
        if (file && fscanf(file, "%ld", &id) != 1)
            die("%s: has %lld token ids, --tokens asks for %lld", given->ids, i, given->tokens);
        if (id < 0 || id >= model->vocabulary)
            die("%s: token %lld is %ld, of a vocabulary of %d", given->ids ? given->ids : "the prompt", i, id,
                model->vocabulary);
        ids[i] = (int32_t)id;
    }
    if (file) fclose(file);
    return ids;
}

/* Once to warm up, which loads code; then the fastest of `repeat`. */
static void measure(struct report *report, struct prefill *prefill, const int32_t *ids, const struct arguments *given,
                    bool sparse)
{
    struct prefill_result *best = &report->results[sparse];
    report->ran[sparse] = true;
    for (long long i = 0; i <= given->repeat; i++) {
        struct prefill_result *result = calloc(1, sizeof *result);
        if (!result) die("out of memory");
        const bool drift = given->drift && !sparse;
        prefill_run(prefill, ids, sparse, drift && i == 0, NULL, result);
        if (drift && i == 0) memcpy(best->drift, result->drift, sizeof best->drift); /* measured beside the timed runs */
        if (i > 0) memcpy(result->drift, best->drift, sizeof best->drift);
        if (i == 1 || (i > 1 && result->milliseconds < best->milliseconds)) *best = *result;
        free(result);
    }
}

int main(int argc, char **argv)
{
    struct arguments given;
    static struct model model;
    static struct weights weights;
    static struct prefill_options run_options;
    static struct report report;
    struct backend backend;
    read_arguments(&given, argc, argv);
    read_model(&model, &given);
    read_options(&run_options, &model, &given);
    if (given.device < 0) backend_cpu_open(&backend, 0, model.dtype);
    else backend_gpu_open(&backend, (int)given.device, model.dtype);
    weights_open(&weights, &backend, &model, given.weights, (uint32_t)given.seed);
    int32_t *ids = make_ids(&model, &given);
    struct prefill *prefill = prefill_open(&backend, &model, &weights, &run_options);
    report.model = &model;
    report.options = &run_options;
    report.device = backend.device;
    report.drift = given.drift != NULL;
    report.peer_ms = given.peer_ms;
    if (strcmp(given.mode, "sparse") != 0) measure(&report, prefill, ids, &given, false);
    if (strcmp(given.mode, "dense") != 0) measure(&report, prefill, ids, &given, true);
    report.weight_bytes = weights.bytes;
    report.activation_bytes = prefill_bytes(prefill);
    report.workspace_bytes = prefill_workspace(prefill);
    report.used_bytes = backend.table->memory(&backend, &report.total_bytes);
    report_print(&report, given.json);
    if (given.drift) report_drift(&report, given.drift);
    prefill_free(prefill);
    free(ids);
    weights_free(&weights, &backend, &model);
    tamis_store_free(run_options.store);
    backend_close(&backend);
    return 0;
}
