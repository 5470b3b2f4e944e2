/*
 * cmd_layers.c: `tamis layers`: from measured drifts to a model's sparse layers, shown, compared with a spec's, written into
 * one. Reading is drift_csv.c's, the rule libtamis's, the spec's text spec_edit.c's.
 */
#define _POSIX_C_SOURCE 200809L
#include "cmd.h"

#include "data.h"
#include "drift.h"
#include "drift_csv.h"
#include "error.h"
#include "spec.h"
#include "spec_edit.h"
#include "spec_yaml.h"

#include <stdlib.h>
#include <string.h>

struct job {
    struct cli *cli;
    double drifts[DRIFT_CSV_LAYERS];
    int layers;
    double delta, threshold;
    int32_t sparse[DRIFT_CSV_LAYERS];
    size_t sparse_count;
    struct tamisi_buf text;      /* the sparse layers, as a spec has them */
    struct data data;
    char spec_path[PATH_MAX + 80]; /* "": none was named */
    struct tamisi_buf spec_text;
    struct spec spec;
};

/* ---- what is given */

static tamis_status read_drifts(struct job *job, const char *path)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    tamis_status status = cli_read_file(&text, path, DRIFT_CSV_BYTES, "256 KiB, a short line a layer would be right");
    if (status == TAMIS_OK) status = drift_csv_read(job->drifts, &job->layers, path, text.data, text.size);
    tamisi_buf_free(&text);
    return status;
}

static tamis_status choose(struct job *job)
{
    const size_t layers = (size_t)job->layers;
    TAMIS_TRY(tamis_drift_layers(job->sparse, layers, &job->sparse_count, job->drifts, layers, job->delta));
    TAMIS_TRY(tamisi_drift_threshold(&job->threshold, job->drifts, layers, job->delta));
    spec_layers_write(&job->text, job->sparse, job->sparse_count);
    return job->text.failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory for the layers") : TAMIS_OK;
}

/* The spec that is compared, and that gets the layers: --spec, else what -o names, which is there then. */
static tamis_status read_spec(struct job *job, const char *spec, const char *output)
{
    if (!spec && !output) return TAMIS_OK;
    TAMIS_TRY(data_find(&job->data));
    TAMIS_TRY(data_spec_path(job->spec_path, &job->data, spec ? spec : output));
    TAMIS_TRY(spec_yaml_load(&job->spec_text, job->spec_path));
    TAMIS_TRY(spec_parse(&job->spec, job->spec_path, job->spec_text.data, job->spec_text.size, job->data.specs_dir));
    if (job->spec.layers == 0 || job->spec.layers == job->layers) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: has %d layers, %s drifts of %d", job->spec_path, job->spec.layers,
                       job->cli->operands[0], job->layers);
}

/* ---- what is written */

/* Where it goes, its tile files may not be beside it: it is read from there before it is written. */
static tamis_status edit_spec(struct tamisi_buf *out, const struct job *job, const char *output)
{
    struct spec made;
    TAMIS_TRY(spec_edit_layers(out, job->spec_path, job->spec_text.data, job->spec_text.size, job->data.specs_dir,
                               job->text.data));
    TAMIS_TRY(spec_parse(&made, output, out->data, out->size, job->data.specs_dir));
    spec_free(&made);
    return TAMIS_OK;
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

static bool is_sparse(const struct job *job, int layer) { return job->drifts[layer] <= job->threshold; }

static void print_table(const struct job *job)
{
    static const char *const heads[] = {"LAYER", "DRIFT", "SPARSE"};
    struct cli_table table;
    cli_table_init(&table, heads, 3, 3);
    for (int layer = 0; layer < job->layers; layer++) {
        cli_table_add(&table, "%d", layer);
        cli_table_add(&table, "%.6g", job->drifts[layer]);
        cli_table_add(&table, "%s", is_sparse(job, layer) ? "yes" : "-");
    }
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void print_text(const struct job *job, const char *output)
{
    struct cli *cli = job->cli;
    const char *had = job->spec.sparse_layers;
    print_table(job);
    cli_print(cli, "\nsparse layers: %s, %zu of %d with a drift of at most %.6g, the quantile %g\n", job->text.data,
              job->sparse_count, job->layers, job->threshold, job->delta);
    if (!job->spec_path[0]) return;
    if (strcmp(had, job->text.data) == 0)
        cli_print(cli, "%s: has the same\n", job->spec_path);
    else
        cli_print(cli, "%s: has %s\n", job->spec_path, had[0] ? had : "none");
    if (output) cli_print(cli, "%s: written\n", output);
}

static void print_json(const struct job *job, const char *output)
{
    struct json json;
    cli_json_begin(job->cli, &json, "layers");
    json_real(&json, "delta", job->delta);
    json_real(&json, "threshold", job->threshold);
    json_string(&json, "sparse_layers", job->text.data);
    json_array(&json, "layers");
    for (int layer = 0; layer < job->layers; layer++) {
        json_object(&json, NULL);
        json_int(&json, "layer", layer);
        json_real(&json, "drift", job->drifts[layer]);
        json_bool(&json, "sparse", is_sparse(job, layer));
        json_object_end(&json);
    }
    json_array_end(&json);
    json_string(&json, "spec", job->spec_path[0] ? job->spec_path : NULL);
    json_string(&json, "spec_has", job->spec_path[0] ? job->spec.sparse_layers : NULL);
    json_string(&json, "output", output);
    cli_json_end(job->cli, &json);
}

static int run_job(struct job *job)
{
    struct cli *cli = job->cli;
    const char *spec = cli_value(cli, "spec"), *output = cli_value(cli, "output");
    if (!cli_real(cli, "delta", 0, 1, &job->delta)) return CLI_USAGE;
    tamis_status status = read_drifts(job, cli->operands[0]);
    if (status == TAMIS_OK) status = choose(job);
    if (status == TAMIS_OK) status = read_spec(job, spec, output);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    if (output && !spec) output = job->spec_path; /* a name without .yaml is the file's all the same */
    const int code = output ? write_spec(job, output) : CLI_OK;
    if (code != CLI_OK) return code;
    if (cli->json)
        print_json(job, output);
    else
        print_text(job, output);
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job) return cli_error(cli, CLI_FAILED, "out of memory");
    job->cli = cli;
    job->delta = 0.5;
    const int code = run_job(job);
    spec_free(&job->spec);
    tamisi_buf_free(&job->spec_text);
    tamisi_buf_free(&job->text);
    free(job);
    return code;
}

static const struct cli_option options[] = {
    {"delta", 0, "X", "the quantile of the drifts, 0 to 1, up to which a layer is sparse; default: 0.5, as published"},
    {"spec", 0, "SPEC", "compare with this spec's sparse layers, and write it to -o"},
    {"output", 'o', "SPEC", "the spec that gets the layers; without --spec one that is there, in place"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "the drifts or the spec are invalid, or of different models"}, {0, NULL}};

const struct cli_command cmd_layers = {
    .name = "layers",
    .operands = "FILE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "choose a model's sparse layers by how little they move its tokens",
    .description =
        "Read FILE, or stdin for -, with a line \"layer,drift\" for each layer of a model, as the prefill example writes it "
        "from what the library has measured, and name the layers at or below the quantile of the drifts: those that bear token "
        "sparsity best. With -o they become a spec's sparse_layers; its comments, order and layout stay.",
    .options = options,
    .exits = exits,
    .examples = "tamis layers drift.csv\n"
                "tamis layers drift.csv --spec llama-3.1-8b -o my.yaml\n"
                "tamis layers drift.csv --delta 0.25 -o my.yaml\n",
    .run = run};
