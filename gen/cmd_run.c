/*
 * cmd_run.c: `tamis run`: the operator on a folder of arrays, results to another. Nothing is written before all is computed,
 * and each file appears whole or not at all.
 */
#define _GNU_SOURCE
#include "case.h"
#include "cmd.h"
#include "device.h"
#include "error.h"
#include "pattern_options.h"
#include "runner.h"
#include "selection_options.h"
#include "spec.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct job {
    struct cli *cli;
    struct device device;
    struct case_input input;
    struct runner *runner;
    struct runner_result result;
    struct runner_times times;
    bool stepped;
    tamis_pattern pattern; /* of the store's spec, or the option's */
    const char *blocks; /* its file, or NULL */
};

/* ---- what to compute */

/* A case.yaml is complete in itself, so the store's spec counts without one only, or where --spec names it. */
static int base_problem(struct job *job, const char *folder, tamis_problem *base)
{
    const char *name = cli_value(job->cli, "spec");
    if (name && !job->device.store) return cli_usage(job->cli, "--spec needs --store");
    if (!name && (!job->device.store || case_has_yaml(folder))) return CLI_OK;
    tamis_status status = tamis_store_problem(base, job->device.store, name);
    if (status == TAMIS_OK) status = tamis_store_pattern(&job->pattern, job->device.store, name);
    return status == TAMIS_OK ? CLI_OK : cli_fail(job->cli, status);
}

static int read_input(struct job *job)
{
    const char *folder = cli_value(job->cli, "input");
    tamis_problem base = TAMIS_PROBLEM_INIT;
    int code = base_problem(job, folder, &base);
    if (code != CLI_OK) return code;
    const tamis_status status = case_read(&job->input, folder, &base);
    if (status != TAMIS_OK) return cli_fail(job->cli, status);
    code = selection_options_read(job->cli, &job->input.problem.selection);
    return code == CLI_OK ? pattern_options_read(job->cli, &job->pattern, &job->blocks) : code;
}

/* ---- computing */

static int compute(struct job *job)
{
    tamis_status status =
        runner_open_pattern(&job->runner, job->device.context, job->device.store, &job->input, &job->pattern, job->blocks);
    if (status == TAMIS_OK) status = runner_run(job->runner, &job->result, &job->times);
    if (status != TAMIS_OK) return cli_fail(job->cli, status);
    const int bad = runner_bad_kept(job->runner, &job->result);
    if (bad >= 0)
        return cli_error(job->cli, CLI_NUMERICS, "the kernels are wrong: sequence %d keeps %d of %lld tokens", bad,
                         job->result.kept[bad], (long long)job->input.problem.seq_len);
    if (cli_given(job->cli, "no-steps")) return CLI_OK;

    struct runner_result steps;
    status = runner_steps(job->runner, &steps, &job->times);
    const char *difference = status == TAMIS_OK ? runner_difference(job->runner, &job->result, &steps) : NULL;
    runner_result_free(&steps);
    job->stepped = status == TAMIS_OK;
    if (status != TAMIS_OK) return cli_fail(job->cli, status);
    return difference ? cli_error(job->cli, CLI_NUMERICS, "the five steps give another %s than the one call", difference)
                      : CLI_OK;
}

static size_t count_nan(const struct job *job)
{
    const tamis_problem *p = &job->input.problem;
    const size_t count = (size_t)p->batch * (size_t)p->q_heads * (size_t)p->seq_len * (size_t)p->head_dim;
    size_t found = 0;
    for (size_t i = 0; i < count; i++) found += isnan(job->result.output[i]) != 0;
    return found;
}

/* ---- files */

/* The lists cut to the longest, with -1 behind each one's end. */
static tamis_status write_indices(const struct job *job, const char *path)
{
    const tamis_problem *p = &job->input.problem;
    const long long capacity = tamis_plan_capacity(runner_plan(job->runner));
    const long long heads = tamis_plan_index_heads(runner_plan(job->runner));
    long long longest = 0;
    for (int b = 0; b < p->batch; b++)
        if (job->result.kept[b] > longest) longest = job->result.kept[b];
    int32_t *lists = malloc((size_t)(p->batch * heads * longest) * sizeof *lists + 1);
    if (!lists) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the indices");
    for (long long list = 0; list < p->batch * heads; list++)
        for (long long i = 0; i < longest; i++)
            lists[list * longest + i] = i < job->result.kept[list / heads] ? job->result.indices[list * capacity + i] : -1;
    const tamis_status status = npy_write(path, NPY_I32, 3, (const long long[]){p->batch, heads, longest}, lists);
    free(lists);
    return status;
}

static tamis_status write_files(const struct job *job, const char *folder)
{
    const tamis_problem *p = &job->input.problem;
    const long long window = p->selection.window, candidates = p->seq_len > window ? p->seq_len - window : 0;
    const long long rows[] = {p->batch, p->q_heads, p->seq_len, p->head_dim};
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/output.npy", folder);
    TAMIS_TRY(npy_write(path, NPY_F32, 4, rows, job->result.output));
    snprintf(path, sizeof path, "%s/indices.npy", folder);
    TAMIS_TRY(write_indices(job, path));
    snprintf(path, sizeof path, "%s/kept.npy", folder);
    TAMIS_TRY(npy_write(path, NPY_I32, 1, rows, job->result.kept));
    snprintf(path, sizeof path, "%s/score.npy", folder);
    TAMIS_TRY(npy_write(path, NPY_F32, 3, (const long long[]){p->batch, p->q_heads, candidates}, job->result.score));
    if (!cli_given(job->cli, "lse")) return TAMIS_OK;
    snprintf(path, sizeof path, "%s/lse.npy", folder);
    return npy_write(path, NPY_F32, 3, rows, job->result.lse);
}

/* What is a case there has a reference of the same names, which no one could make again. */
static bool is_the_case(const struct cli *cli)
{
    struct stat input, output;
    return case_has_yaml(cli_value(cli, "input")) && stat(cli_value(cli, "input"), &input) == 0 &&
           stat(cli_value(cli, "output"), &output) == 0 && input.st_dev == output.st_dev && input.st_ino == output.st_ino;
}

static int write_results(const struct job *job)
{
    const char *folder = cli_value(job->cli, "output");
    if (strlen(folder) + 32 > PATH_MAX) return cli_error(job->cli, CLI_FAILED, "--output: the name is too long");
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return cli_error(job->cli, CLI_FAILED, "cannot make the folder %s: %s", folder, strerror(errno));
    const tamis_status status = write_files(job, folder);
    return status == TAMIS_OK ? CLI_OK : cli_fail(job->cli, status);
}

/* ---- report */

/* The part of the blocks up to the diagonal that a host's pattern has; they are of the capacity, whatever was kept. */
static double density(const struct block_mask *mask)
{
    const double tiles = mask->tiles;
    return (double)block_mask_count(mask) / ((double)mask->heads * tiles * (tiles + 1) / 2);
}

static bool has_pattern(const struct job *job) { return job->pattern.kind != TAMIS_PATTERN_NONE; }

static void report_json(struct job *job, size_t nan)
{
    const tamis_problem *p = &job->input.problem;
    struct json json;
    cli_json_begin(job->cli, &json, "run");
    json_string(&json, "device", job->device.name);
    json_string(&json, "policy", spec_policy_name(p->selection.policy));
    json_string(&json, "scope", spec_scope_name(p->selection.scope));
    json_int(&json, "batch", p->batch);
    json_int(&json, "q_heads", p->q_heads);
    json_int(&json, "kv_heads", p->kv_heads);
    json_int(&json, "seq_len", p->seq_len);
    json_int(&json, "head_dim", p->head_dim);
    json_string(&json, "dtype", spec_dtype_name(p->dtype));
    json_array(&json, "kept");
    for (int b = 0; b < p->batch; b++) json_int(&json, NULL, job->result.kept[b]);
    json_array_end(&json);
    const struct block_mask *mask = runner_blocks(job->runner);
    json_string(&json, "pattern", tamisi_pattern_name(job->pattern.kind));
    if (mask) json_real(&json, "density", density(mask));
    json_real(&json, "run_ms", job->times.run_ms);
    if (job->stepped) {
        json_object(&json, "step_ms");
        for (int i = 0; i < RUNNER_STEPS; i++) {
            if (i == RUNNER_ATTEND && has_pattern(job)) json_real(&json, "blocks", job->times.blocks_ms);
            json_real(&json, runner_step_names[i], job->times.step_ms[i]);
        }
        json_object_end(&json);
    }
    json_int(&json, "nan", (long long)nan);
    cli_json_end(job->cli, &json);
}

static void report_times(struct job *job)
{
    static const char *const heads[] = {"STEP", "MS"};
    struct cli_table table;
    double sum = 0;
    cli_table_init(&table, heads, 2, 1u << 1);
    for (int i = 0; i < RUNNER_STEPS && job->stepped; i++) {
        if (i == RUNNER_ATTEND && has_pattern(job)) {
            cli_table_add(&table, "blocks");
            cli_table_add(&table, "%.3f", job->times.blocks_ms);
            sum += job->times.blocks_ms;
        }
        cli_table_add(&table, "%s", runner_step_names[i]);
        cli_table_add(&table, "%.3f", job->times.step_ms[i]);
        sum += job->times.step_ms[i];
    }
    if (job->stepped) {
        cli_table_add(&table, "sum of steps");
        cli_table_add(&table, "%.3f", sum);
    }
    cli_table_add(&table, "one call");
    cli_table_add(&table, "%.3f", job->times.run_ms);
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void report_pattern(struct job *job)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    if (!has_pattern(job)) return;
    tamisi_pattern_describe(&text, &job->pattern);
    if (!text.failed) cli_print(job->cli, "pattern: %s\n", text.data);
    tamisi_buf_free(&text);
}

static void report_text(struct job *job)
{
    const tamis_problem *p = &job->input.problem;
    cli_print(job->cli, "device %s, %s, batch %d, q_heads %d, kv_heads %d, seq_len %lld, head_dim %d\n", job->device.name,
              spec_dtype_name(p->dtype), p->batch, p->q_heads, p->kv_heads, (long long)p->seq_len, p->head_dim);
    report_pattern(job);
    for (int b = 0; b < p->batch; b++)
        cli_print(job->cli, "sequence %d: kept %d of %lld tokens (%.1f %%)\n", b, job->result.kept[b], (long long)p->seq_len,
                  100.0 * job->result.kept[b] / (double)p->seq_len);
    const struct block_mask *mask = runner_blocks(job->runner);
    if (mask)
        cli_print(job->cli, "blocks: %lld, %.1f %% of those up to the diagonal\n", block_mask_count(mask), 100 * density(mask));
    report_times(job);
}

static void report(struct job *job)
{
    const size_t nan = count_nan(job);
    if (nan > 0) cli_warn(job->cli, "%zu elements of the output are NaN", nan);
    if (job->input.problem.selection.policy == TAMIS_DENSE && !cli_given(job->cli, "dense"))
        cli_note(job->cli, "dense: neither options, case.yaml nor a spec of the store says what to keep");
    if (job->cli->json)
        report_json(job, nan);
    else
        report_text(job);
}

static int run(struct cli *cli)
{
    struct job job = {.cli = cli, .pattern = TAMIS_PATTERN_INIT};
    if (!cli_value(cli, "input")) return cli_usage(cli, "--input DIR is missing");
    if (!cli_value(cli, "output")) return cli_usage(cli, "--output DIR is missing");
    if (is_the_case(cli)) return cli_usage(cli, "--output: is the case itself, whose reference the results would replace");
    int code = device_open(&job.device, cli);
    if (code == CLI_OK) code = read_input(&job);
    if (code == CLI_OK) code = compute(&job);
    if (code == CLI_OK) code = write_results(&job);
    if (code == CLI_OK) report(&job);
    runner_result_free(&job.result);
    runner_close(job.runner);
    case_free(&job.input);
    device_close(&job.device);
    return code;
}

static const struct cli_option options[] = {
    {"input", 0, "DIR", "folder with q.npy, k.npy, v.npy and, if it has one, case.yaml"},
    {"output", 0, "DIR", "folder for the results; made if absent"},
    {"store", 0, "STORE", "kernels for a GPU; the CPU needs none"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0 where a store is given and there is a GPU, else cpu"},
    {"spec", 0, "NAME", "take selection and scale from this spec of the store; without case.yaml the default is its only one"},
    SELECTION_OPTIONS,
    PATTERN_OPTION,
    {"precision", 0, "fp32|fp64", "arithmetic of the CPU"},
    {"lse", 0, NULL, "write lse.npy too"},
    {"no-steps", 0, NULL, "skip the second run, which times the steps one by one"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "the store lacks a kernel, which could not be compiled"},
    {CLI_NUMERICS, "the one call and the five steps disagree, or a result is impossible; nothing was written"},
    {0, NULL}};

const struct cli_command cmd_run = {
    .name = "run",
    .operands = "--input DIR --output DIR [option...]",
    .operand_max = 0,
    .summary = "run the operator on arrays of your own",
    .description =
        "Read q.npy, k.npy and v.npy (batch, heads, seq_len, head_dim; bf16 as uint16 bits, or float16), run "
        "token-sparse attention, and write output.npy (float32; zero rows where a token was dropped), indices.npy"
        " (int32, padded with -1), kept.npy and score.npy. Prints how many tokens each sequence keeps and the "
        "time of each step. Selection comes from options, else from case.yaml, else from the store's spec, else "
        "all is kept. With a pattern, of the option or of the store's spec, attention is block-sparse, on the tokens that are "
        "kept; 'tamis spec keys' lists its parameters.",
    .options = options,
    .exits = exits,
    .examples = "tamis run --input tests/reference/gqa_d128 --output out --device cpu\n"
                "tamis run --store llama.tamis --input layer20 --output out --coverage 0.005\n"
                "tamis run --store llama.tamis --input layer20 --output out --pattern flexprefill,gamma=0.9\n"
                "tamis run --input layer20 --output out --pattern blocks=mask.npy --device cpu\n",
    .run = run};
