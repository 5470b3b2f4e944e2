/*
 * cmd_spec_import.c: `tamis spec import`: a Hugging Face configuration to a spec on stdout. What the spec cannot say goes
 * along as comments, and to stderr as warnings.
 */
#define _XOPEN_SOURCE 700
#include "cmd.h"

#include "data.h"
#include "error.h"
#include "spec_import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name of the folder that the file is in. */
static void name_by_folder(char out[64], const char *path)
{
    char *whole = realpath(path, NULL);
    const char *slash = whole ? strrchr(whole, '/') : NULL;
    out[0] = '\0';
    if (slash) spec_import_name(out, whole, (size_t)(slash - whole));
    free(whole);
}

static int choose_name(struct cli *cli, struct spec_import *import)
{
    const char *name = cli_value(cli, "name");
    char plain[64];
    if (name) {
        spec_import_name(plain, name, strlen(name));
        if (!name[0] || strcmp(plain, name) != 0)
            return cli_usage(cli, "--name: \"%s\" is no name, up to 63 of a-z, 0-9, '.' and '-' would be right", name);
        snprintf(import->name, sizeof import->name, "%s", name);
    }
    if (!import->name[0]) name_by_folder(import->name, cli->operands[0]);
    if (import->name[0]) return CLI_OK;
    return cli_error(cli, CLI_SPEC, "%s: neither _name_or_path nor the folder gives a name, --name would",
                     cli->operands[0]);
}

/* What is printed is a spec, or nothing is. */
static tamis_status check_spec(const struct tamisi_buf *text)
{
    struct data data;
    struct spec spec;
    if (text->failed) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    TAMIS_TRY(data_find(&data));
    TAMIS_TRY(spec_parse(&spec, "imported.yaml", text->data, text->size, data.specs_dir));
    spec_free(&spec);
    return TAMIS_OK;
}

static void print_spec(struct cli *cli, const struct spec_import *import, const struct tamisi_buf *text)
{
    struct json json;
    for (int i = 0; i < import->note_count; i++) cli_warn(cli, "%s: %s", import->name, import->notes[i]);
    if (!cli->json) {
        fwrite(text->data, 1, text->size, stdout);
        return;
    }
    cli_json_begin(cli, &json, "spec_import");
    json_string(&json, "name", import->name);
    json_array(&json, "warnings");
    for (int i = 0; i < import->note_count; i++) json_string(&json, NULL, import->notes[i]);
    json_array_end(&json);
    json_string(&json, "text", text->data);
    cli_json_end(cli, &json);
}

static int write_spec(struct cli *cli, const struct spec_import *import, double coverage)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    int code = CLI_OK;
    spec_import_write(&text, import, coverage);
    const tamis_status status = check_spec(&text);
    if (status == TAMIS_OK)
        print_spec(cli, import, &text);
    else
        code = cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    tamisi_buf_free(&text);
    return code;
}

static int run_import(struct cli *cli)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct spec_import import;
    double coverage = 0.005;
    if (!cli_real(cli, "coverage", 0, 1, &coverage)) return CLI_USAGE;
    if (coverage >= 1) return cli_usage(cli, "--coverage: 1 would drop all tokens, less would be right");
    tamis_status status = cli_read_file(&text, cli->operands[0], SPEC_IMPORT_MAX_BYTES,
                                        "1024 KiB, a model's configuration is of a few");
    if (status == TAMIS_OK) status = spec_import_read(&import, cli->operands[0], text.data, text.size);
    tamisi_buf_free(&text);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    const int code = choose_name(cli, &import);
    return code == CLI_OK ? write_spec(cli, &import, coverage) : code;
}

static const struct cli_option options[] = {
    {"name", 0, "NAME", "name of the spec; default: by _name_or_path, else by the file's folder"},
    {"coverage", 0, "X", "drop tokens that hold this part of the attention mass; default: 0.005"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "the file is no configuration, or of a model that no spec can say"}, {0, NULL}};

const struct cli_command cmd_spec_import = {
    .name = "spec import",
    .operands = "CONFIG",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "print the spec of a model by its Hugging Face config.json",
    .description =
        "Read CONFIG, or stdin for -, the config.json of a Hugging Face model, and print a spec of the model's geometry, ready "
        "for gen: default selection, all architectures, shared tile lists. Of attention that the kernels do not have, such as "
        "sliding windows, capped logits and sinks, it warns, and the spec says it in comments.",
    .options = options,
    .exits = exits,
    .examples = "tamis spec import config.json > my.yaml\n"
                "tamis spec import config.json --name my-model --coverage 0.008\n",
    .run = run_import};
