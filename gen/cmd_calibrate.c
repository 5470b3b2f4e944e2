/*
 * cmd_calibrate.c: `tamis calibrate`: from measured answers and times to the setting that a spec should have, shown and written
 * into one. Reading is quality_csv.c's, the choice calibrate.c's, the spec's text spec_edit.c's.
 */
#define _POSIX_C_SOURCE 200809L
#include "calibrate.h"
#include "cmd.h"

#include "data.h"
#include "error.h"
#include "spec.h"
#include "spec_edit.h"
#include "spec_yaml.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESULTS_MAX_BYTES ((size_t)256 << 20)
#define EVIDENCE_LINES 3

struct job {
    struct cli *cli;
    double bound;
    bool each;
    long long length;
    struct tamisi_buf text; /* of the results; the rows' texts are in it */
    struct quality_row *rows;
    size_t count;
    struct calibrate_result result;
    const struct calibrate_setting *chosen; /* NULL: none holds */
    struct data data;
    char spec_path[PATH_MAX + 80]; /* "": none was named */
    struct tamisi_buf spec_text;
    struct spec spec;
};

/* ---- what is given */

static tamis_status read_results(struct job *job, const char *path)
{
    TAMIS_TRY(cli_read_file(&job->text, path, RESULTS_MAX_BYTES, "256 MiB"));
    return quality_csv_read(&job->rows, &job->count, path, job->text.data, job->text.size);
}

/* The spec that is compared, and that gets the setting: --spec, else what -o names, which is there then. */
static tamis_status read_spec(struct job *job, const char *spec, const char *output)
{
    if (!spec && !output) return TAMIS_OK;
    TAMIS_TRY(data_find(&job->data));
    TAMIS_TRY(data_spec_path(job->spec_path, &job->data, spec ? spec : output));
    TAMIS_TRY(spec_yaml_load(&job->spec_text, job->spec_path));
    TAMIS_TRY(spec_parse(&job->spec, job->spec_path, job->spec_text.data, job->spec_text.size, job->data.specs_dir));
    const int layers = job->rows[0].layers;
    if (job->spec.layers == 0 || job->spec.layers == layers) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: has %d layers, %s is of a model of %d", job->spec_path, job->spec.layers,
                       job->cli->operands[0], layers);
}

/* ---- what is written */

/* On the mean faster than dense, and yet not at each length. */
static bool is_slow_somewhere(const struct calibrate_setting *setting) { return setting->slowest <= 1; }

static void put_evidence(char lines[EVIDENCE_LINES][400], const struct job *job)
{
    const struct calibrate_setting *s = job->chosen;
    snprintf(lines[0], sizeof lines[0], "%.200s", s->row->setting);
    for (char *at = lines[0]; *at; at++)
        if ((unsigned char)*at < ' ') *at = ' '; /* a comment is one line, whatever a file has in its fields */
    snprintf(lines[1], sizeof lines[1], "accuracy %.4f, dense %.4f: a loss of %.4f, standard error %.4f, of %d prompts",
             s->accuracy, s->dense, s->loss, s->error, s->prompts);
    const int bytes = snprintf(lines[2], sizeof lines[2], "the fastest within a loss of %g%s: prompts %.2fx as fast as dense",
                               job->bound, job->each ? " in each task and length" : "", s->speed);
    if (is_slow_somewhere(s))
        snprintf(lines[2] + bytes, sizeof lines[2] - (size_t)bytes, ", but %.2fx at %lld tokens", s->slowest,
                 s->slowest_length);
}

static tamis_status edit_spec(struct tamisi_buf *out, const struct job *job, const char *output)
{
    struct tamisi_buf with_layers = TAMISI_BUF_INIT;
    const struct quality_row *row = job->chosen->row;
    const char *shared = job->data.specs_dir, *policy = spec_policy_name(row->selection.policy);
    char lines[EVIDENCE_LINES][400];
    const char *const evidence[EVIDENCE_LINES] = {lines[0], lines[1], lines[2]};
    struct spec made;
    put_evidence(lines, job);
    tamis_status status = spec_edit_layers(&with_layers, job->spec_path, job->spec_text.data, job->spec_text.size, shared,
                                           row->sparse_layers);
    if (status == TAMIS_OK)
        status = spec_edit_selection(out, job->spec_path, with_layers.data, with_layers.size, shared, policy, row->amount,
                                     evidence, EVIDENCE_LINES);
    tamisi_buf_free(&with_layers);
    /* Where it goes, its tile files may not be beside it: it is read from there before it is written. */
    if (status == TAMIS_OK) status = spec_parse(&made, output, out->data, out->size, shared);
    if (status == TAMIS_OK) spec_free(&made);
    return status;
}

static int write_spec(struct job *job, const char *output)
{
    struct tamisi_buf edited = TAMISI_BUF_INIT;
    const tamis_status status = edit_spec(&edited, job, output);
    const int code = status == TAMIS_OK ? cli_write_file(job->cli, output, &edited)
                                        : cli_fail_as(job->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    tamisi_buf_free(&edited);
    return code;
}

static const tamis_selection *spec_selection(const struct job *job)
{
    return job->spec_path[0] ? &job->spec.problem.selection : NULL;
}

static bool is_like_spec(const struct job *job, const struct calibrate_setting *setting)
{
    const tamis_selection *like = spec_selection(job);
    return !like || calibrate_alike(&setting->row->selection, like);
}

/* Why a setting is not chosen, or that it is. */
static const char *verdict(const struct job *job, const struct calibrate_setting *setting)
{
    if (setting == job->chosen) return "chosen";
    if (setting->prompts != job->result.prompts) return "prompts are missing";
    if (!is_like_spec(job, setting)) return "the spec selects otherwise";
    if (!calibrate_holds(&job->result, setting, job->bound, job->each)) return "loses more";
    return calibrate_pays(setting) ? "slower" : "not faster than dense";
}

static void print_table(const struct job *job)
{
    static const char *const heads[] = {"SETTING", "PROMPTS", "ACCURACY", "LOSS", "ERROR", "WORST", "OF", "SPEED", ""};
    struct cli_table table;
    cli_table_init(&table, heads, 9, 0xbe);
    for (size_t i = 0; i < job->result.count; i++) {
        const struct calibrate_setting *s = &job->result.settings[i];
        cli_table_add(&table, "%s", s->row->setting);
        cli_table_add(&table, "%d", s->prompts);
        cli_table_add(&table, "%.4f", s->accuracy);
        cli_table_add(&table, "%.4f", s->loss);
        cli_table_add(&table, "%.4f", s->error);
        cli_table_add(&table, "%.4f", s->prompts > 0 ? s->worst : 0.0);
        cli_table_add(&table, "%s %s", s->worst_row->cases[0], s->worst_row->cases[2]);
        cli_table_add(&table, "%.2fx", s->speed);
        cli_table_add(&table, "%s", verdict(job, s));
    }
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void print_text(const struct job *job, const char *output)
{
    struct cli *cli = job->cli;
    print_table(job);
    if (!job->chosen) return;
    const struct quality_row *row = job->chosen->row;
    cli_print(cli, "\n%s: %s, sparse_layers: %s\n", spec_policy_name(row->selection.policy), row->amount, row->sparse_layers);
    if (output) cli_print(cli, "%s: written\n", output);
}

static void print_json(const struct job *job, const char *output)
{
    struct json json;
    for (size_t i = 0; i < job->result.count; i++) {
        const struct calibrate_setting *s = &job->result.settings[i];
        cli_json_begin(job->cli, &json, "calibrate");
        json_string(&json, "setting", s->row->setting);
        json_string(&json, "policy", spec_policy_name(s->row->selection.policy));
        json_string(&json, "amount", s->row->amount);
        json_string(&json, "sparse_layers", s->row->sparse_layers);
        json_int(&json, "prompts", s->prompts);
        json_real(&json, "accuracy", s->accuracy);
        json_real(&json, "dense", s->dense);
        json_real(&json, "loss", s->loss);
        json_real(&json, "error", s->error);
        json_real(&json, "worst", s->prompts > 0 ? s->worst : 0.0);
        json_real(&json, "speed", s->speed);
        json_real(&json, "slowest", s->slowest);
        json_int(&json, "slowest_length", s->slowest_length);
        json_string(&json, "verdict", verdict(job, s));
        json_string(&json, "output", s == job->chosen ? output : NULL);
        cli_json_end(job->cli, &json);
    }
}

/* Where none is chosen: is there one that speed alone speaks against? */
static bool holds_any(const struct job *job)
{
    for (size_t i = 0; i < job->result.count; i++)
        if (is_like_spec(job, &job->result.settings[i]) &&
            calibrate_holds(&job->result, &job->result.settings[i], job->bound, job->each))
            return true;
    return false;
}

static void warn_of_lengths(const struct job *job)
{
    const struct calibrate_setting *s = job->chosen;
    if (s && is_slow_somewhere(s))
        cli_warn(job->cli, "%s: at %lld tokens it is %.2fx as fast as dense: prompts of that length are better run dense",
                 s->row->setting, s->slowest_length, s->slowest);
}

static int run_job(struct job *job)
{
    struct cli *cli = job->cli;
    const char *spec = cli_value(cli, "spec"), *output = cli_value(cli, "output");
    if (!cli_real(cli, "loss", 0, 1, &job->bound)) return CLI_USAGE;
    if (!cli_integer(cli, "length", 1, 1 << 24, &job->length)) return CLI_USAGE;
    job->each = cli_given(cli, "each");
    tamis_status status = read_results(job, cli->operands[0]);
    if (status == TAMIS_OK) status = calibrate_measure(&job->result, cli->operands[0], job->rows, job->count, job->length);
    if (status == TAMIS_OK) status = read_spec(job, spec, output);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    if (output && !spec) output = job->spec_path; /* a name without .yaml is the file's all the same */
    job->chosen = calibrate_choose(&job->result, job->bound, job->each, spec_selection(job));
    const int code = output && job->chosen ? write_spec(job, output) : CLI_OK;
    if (code != CLI_OK) return code;
    if (cli->json)
        print_json(job, output);
    else
        print_text(job, output);
    warn_of_lengths(job);
    if (job->chosen) return CLI_OK;
    return cli_error(cli, CLI_FAILED, "no setting holds a loss of %g%s: nothing is chosen", job->bound,
                     holds_any(job) ? " and is faster than dense" : "");
}

static int run(struct cli *cli)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job) return cli_error(cli, CLI_FAILED, "out of memory");
    job->cli = cli;
    job->bound = 0.01;
    const int code = run_job(job);
    calibrate_free(&job->result);
    free(job->rows);
    spec_free(&job->spec);
    tamisi_buf_free(&job->spec_text);
    tamisi_buf_free(&job->text);
    free(job);
    return code;
}

static const struct cli_option options[] = {
    {"loss", 0, "X", "the most accuracy that may be lost against dense, 0 to 1; default: 0.01, one answer in a hundred"},
    {"each", 0, NULL, "in each task and length, not only on the mean"},
    {"length", 0, "N", "count prompts of this length only"},
    {"spec", 0, "SPEC", "consider settings that select as this spec does, and write it to -o"},
    {"output", 'o', "SPEC", "the spec that gets the setting; without --spec one that is there, in place"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {{CLI_SPEC, "the results or the spec are invalid, or not of one model"}, {0, NULL}};

const struct cli_command cmd_calibrate = {
    .name = "calibrate",
    .operands = "FILE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "choose how many tokens a model keeps, and in which layers, by measured answers",
    .description =
        "Read FILE, or stdin for -, the results.csv of examples/quality/run.py, compare each token-sparse setting with dense "
        "prompt by prompt, and name the fastest whose loss of accuracy stays within a bound; one that is not faster than dense "
        "is never chosen. With -o it becomes a spec's coverage, ratio or count, and its sparse_layers, with the evidence as "
        "comments; all else in the spec stays.",
    .options = options,
    .exits = exits,
    .examples = "tamis calibrate results.csv\n"
                "tamis calibrate results.csv --loss 0.005 --spec llama-3.1-8b -o my.yaml\n"
                "tamis calibrate results.csv --each -o my.yaml\n",
    .run = run};
