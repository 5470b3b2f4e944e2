/*
 * cmd_verify.c: `tamis verify`: case folders run and compared with the float64 reference that lies in them, by the rules of
 * equal.h.
 */
#include "case.h"
#include "cmd.h"
#include "device.h"
#include "equal.h"
#include "error.h"
#include "runner.h"

#include <stdlib.h>
#include <string.h>

struct verification {
    struct cli *cli;
    struct device device;
    struct cli_table table;
    int equal, unequal;
};

/* One folder's arrays, from reading to verdict. */
struct trial {
    const char *folder;
    struct case_input input;
    struct case_reference reference;
    struct runner *runner;
    struct runner_result result;
    struct runner_times times;
    struct equal_report report;
};

static tamis_status compare(struct trial *trial)
{
    const struct equal_case reference = {.problem = &trial->input.problem,
                                         .q = trial->input.q.data,
                                         .k = trial->input.k.data,
                                         .v = trial->input.v.data,
                                         .score = trial->reference.score.data,
                                         .kept = trial->reference.kept.data,
                                         .indices = trial->reference.indices.data,
                                         .capacity = trial->reference.capacity,
                                         .output = trial->reference.output.data};
    const struct equal_result result = {trial->result.kept, trial->result.indices,
                                        tamis_plan_capacity(runner_plan(trial->runner)), trial->result.output};
    return equal_check(&trial->report, &reference, &result);
}

static tamis_status try_folder(struct verification *verification, struct trial *trial)
{
    const tamis_problem base = TAMIS_PROBLEM_INIT;
    TAMIS_TRY(case_read(&trial->input, trial->folder, &base));
    TAMIS_TRY(case_reference_read(&trial->reference, trial->folder, &trial->input.problem));
    TAMIS_TRY(runner_open(&trial->runner, verification->device.context, verification->device.store, &trial->input));
    TAMIS_TRY(runner_run(trial->runner, &trial->result, &trial->times));
    return compare(trial);
}

static void add_json(struct verification *verification, const struct trial *trial)
{
    const struct equal_report *report = &trial->report;
    struct json json;
    cli_json_begin(verification->cli, &json, "verify");
    json_string(&json, "case", trial->folder);
    json_string(&json, "device", verification->device.name);
    json_bool(&json, "equal", report->equal);
    json_string(&json, "message", report->message);
    json_array(&json, "kept");
    for (int b = 0; b < trial->input.problem.batch; b++) json_int(&json, NULL, trial->result.kept[b]);
    json_array_end(&json);
    json_int(&json, "kept_differ", report->kept_differ);
    json_int(&json, "positions_differ", report->positions_differ);
    json_real(&json, "threshold_distance", report->threshold_distance);
    json_real(&json, "output_error", report->output_error);
    json_real(&json, "output_limit", report->output_limit);
    json_real(&json, "run_ms", trial->times.run_ms);
    cli_json_end(verification->cli, &json);
}

static void add_row(struct cli_table *table, const struct trial *trial)
{
    const struct equal_report *report = &trial->report;
    struct tamisi_buf kept = TAMISI_BUF_INIT;
    for (int b = 0; b < trial->input.problem.batch; b++)
        tamisi_buf_printf(&kept, "%s%d", b ? "," : "", trial->result.kept[b]);
    cli_table_add(table, "%s", trial->folder);
    cli_table_add(table, "%s", kept.data ? kept.data : "");
    cli_table_add(table, "%lld", (long long)trial->input.problem.seq_len);
    cli_table_add(table, "%lld", report->positions_differ);
    cli_table_add(table, "%.2e", report->output_error);
    cli_table_add(table, "%.0e", report->output_limit);
    cli_table_add(table, "%.3f", trial->times.run_ms);
    cli_table_add(table, "%s", report->equal ? "equal" : "NOT EQUAL");
    tamisi_buf_free(&kept);
}

static int verify_folder(struct verification *verification, const char *folder)
{
    struct trial trial = {.folder = folder};
    const tamis_status status = try_folder(verification, &trial);
    int code = CLI_OK;
    if (status != TAMIS_OK) {
        code = cli_fail(verification->cli, status);
    } else {
        *(trial.report.equal ? &verification->equal : &verification->unequal) += 1;
        if (verification->cli->json)
            add_json(verification, &trial);
        else
            add_row(&verification->table, &trial);
        if (!trial.report.equal) code = cli_error(verification->cli, CLI_NUMERICS, "%s: %s", folder, trial.report.message);
    }
    runner_result_free(&trial.result);
    runner_close(trial.runner);
    case_reference_free(&trial.reference);
    case_free(&trial.input);
    return code;
}

/* All folders of --input and of the operands; a mismatch outweighs a folder that could not be run. */
static int verify_all(struct verification *verification)
{
    struct cli *cli = verification->cli;
    const char *folder;
    int code = CLI_OK, count = 0;
    for (int i = 0; (folder = cli_value_at(cli, "input", i)) || count < cli->operand_count; i++) {
        if (!folder) folder = cli->operands[count++];
        const int own = verify_folder(verification, folder);
        if (own == CLI_NUMERICS || code == CLI_OK) code = own;
    }
    return code;
}

static int run(struct cli *cli)
{
    static const char *const heads[] = {"CASE", "KEPT", "OF", "POSITIONS DIFFER", "ERROR", "LIMIT", "MS", "VERDICT"};
    struct verification verification = {.cli = cli};
    if (!cli_value(cli, "input") && cli->operand_count == 0) return cli_usage(cli, "a case folder is missing");
    cli_table_init(&verification.table, heads, 8, 0x7eu);
    int code = device_open(&verification.device, cli);
    if (code == CLI_OK) {
        code = verify_all(&verification);
        if (verification.table.count > 0) cli_table_print(&verification.table, cli);
        cli_note(cli, "%s: %d cases equal, %d not", verification.device.name, verification.equal, verification.unequal);
    }
    cli_table_free(&verification.table);
    device_close(&verification.device);
    return code;
}

static const struct cli_option options[] = {
    {"input", 0, "DIR", "a case folder; may be repeated, or given without --input"},
    {"store", 0, "STORE", "kernels for a GPU; the CPU needs none"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0 where a store is given and there is a GPU, else cpu"},
    {"precision", 0, "fp32|fp64", "arithmetic of the CPU"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {{CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
                                             {CLI_COMPILE, "the store lacks a kernel, which could not be compiled"},
                                             {CLI_NUMERICS, "a result differs from its reference"},
                                             {0, NULL}};

const struct cli_command cmd_verify = {
    .name = "verify",
    .operands = "DIR... [option...]",
    .operand_max = -1,
    .summary = "run reference cases and compare",
    .description =
        "Run the case in each DIR (q.npy, k.npy, v.npy, case.yaml) with poisoned outputs and compare with its "
        "kept.npy, indices.npy, output.npy and score.npy, which float64 arithmetic made. Equal means: the same "
        "counts, tokens chosen otherwise only within 2^-12 of their head's threshold, dropped rows zero in every "
        "bit, no NaN, and a relative error of each head of at most 4e-3 (bf16) or 1e-3 (fp16).",
    .options = options,
    .exits = exits,
    .examples = "tamis verify tests/reference/*\n"
                "tamis verify --store llama.tamis --device cuda:0 tests/reference/gqa_d128\n",
    .run = run};
