/*
 * cmd_spec.c: `tamis spec check`, `show` and `keys`: whether specs are right, what they say with all defaults, and what a
 * spec can say at all. `import` is in cmd_spec_import.c.
 */
#define _GNU_SOURCE
#include "cmd.h"
#include "data.h"
#include "error.h"
#include "schema.h"
#include "space.h"
#include "spec.h"
#include "spec_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cli_exit_text exits[] = {{CLI_SPEC, "a spec is invalid"}, {0, NULL}};

static tamis_status read_operand(struct spec *spec, const struct data *data, const char *operand)
{
    char path[PATH_MAX + 80];
    TAMIS_TRY(data_spec_path(path, data, operand));
    return spec_read(spec, path, data->specs_dir);
}

/* ---- check */

/* A spec is right if it reads, and if each kernel has a variant that can be built. */
static tamis_status check_spec(struct spec *spec, size_t *variants, const struct data *data, const char *operand)
{
    struct space space;
    const struct space_options options = {
        .templates_dir = data->templates_dir, .abi_dir = data->abi_dir, .defaults_only = true};
    TAMIS_TRY(read_operand(spec, data, operand));
    const tamis_status status = space_make(&space, spec, &options);
    if (status != TAMIS_OK) {
        spec_free(spec);
        return status;
    }
    *variants = space.variant_count;
    space_free(&space);
    return TAMIS_OK;
}

/* The place in "file:line:column: ..."; zeros where the message has none. */
static void read_place(const char *message, int *line, int *column)
{
    const char *end = strstr(message, ": ");
    *line = *column = 0;
    if (!end) return;
    const char *at = end;
    for (int colons = 0; at > message && colons < 2; colons += *at == ':') at--;
    if (sscanf(at, ":%d:%d", line, column) != 2) *line = *column = 0;
}

/* Messages stand alone on their line, as editors look for them. */
static void report_bad(struct cli *cli, const char *operand)
{
    const char *message = tamis_last_error();
    struct json json;
    int line, column;
    fprintf(stderr, "%s\n", message);
    if (!cli->json) return;
    read_place(message, &line, &column);
    cli_json_begin(cli, &json, "spec_check");
    json_string(&json, "spec", operand);
    json_bool(&json, "valid", false);
    json_string(&json, "message", message);
    json_int(&json, "line", line);
    json_int(&json, "column", column);
    cli_json_end(cli, &json);
}

static void report_good(struct cli *cli, const char *operand, const struct spec *spec, size_t variants)
{
    struct json json;
    if (!cli->json) {
        cli_print(cli, "%s: valid: %s, %d architectures, %zu default variants\n", operand, spec->name, spec->arch_count,
                  variants);
        return;
    }
    cli_json_begin(cli, &json, "spec_check");
    json_string(&json, "spec", operand);
    json_bool(&json, "valid", true);
    json_string(&json, "name", spec->name);
    json_int(&json, "archs", spec->arch_count);
    json_int(&json, "default_variants", (long long)variants);
    cli_json_end(cli, &json);
}

static int run_check(struct cli *cli)
{
    struct data data;
    int code = CLI_OK;
    if (data_find(&data) != TAMIS_OK) return cli_fail_as(cli, CLI_FAILED);
    for (int i = 0; i < cli->operand_count; i++) {
        struct spec spec;
        size_t variants = 0;
        const tamis_status status = check_spec(&spec, &variants, &data, cli->operands[i]);
        if (status == TAMIS_OK) {
            report_good(cli, cli->operands[i], &spec, variants);
            spec_free(&spec);
            continue;
        }
        report_bad(cli, cli->operands[i]);
        if (code != CLI_FAILED) code = status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED;
    }
    return code;
}

static const struct cli_command command_check = {
    .name = "spec check",
    .operands = "SPEC...",
    .operand_min = 1,
    .operand_max = -1,
    .summary = "check specs: \"file:line:column: what is wrong, what would be right\"",
    .description =
        "Check each SPEC, a YAML file or the name of one in specs/: that it reads, and that every architecture "
        "has a default variant of each kernel family. Says of a wrong one, on stderr, file:line:column, what is "
        "wrong and what would be right.",
    .exits = exits,
    .examples = "tamis spec check my.yaml\n"
                "tamis spec check specs/*.yaml --json\n",
    .run = run_check};

/* ---- show */

static int run_show(struct cli *cli)
{
    struct data data;
    struct spec spec;
    struct json json;
    struct tamisi_buf text = TAMISI_BUF_INIT;
    tamis_status status = data_find(&data);
    if (status == TAMIS_OK) status = read_operand(&spec, &data, cli->operands[0]);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    if (cli->json) {
        cli_json_begin(cli, &json, "spec");
        spec_write_json(&json, &spec);
        cli_json_end(cli, &json);
    } else {
        spec_write_yaml(&text, &spec);
        if (!text.failed) fwrite(text.data, 1, text.size, stdout);
    }
    const int code = text.failed ? cli_error(cli, CLI_FAILED, "out of memory") : CLI_OK;
    tamisi_buf_free(&text);
    spec_free(&spec);
    return code;
}

static const struct cli_command command_show = {
    .name = "spec show",
    .operands = "SPEC",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "print a spec with all its defaults and tile lists written out",
    .description =
        "Print SPEC in its normal form: every default written out, tile lists in place. What is printed is a spec"
        " that says the same.",
    .exits = exits,
    .examples = "tamis spec show llama-3.1-8b\n"
                "tamis spec show my.yaml --json | jq .selection\n",
    .run = run_show};

/* ---- keys */

static int run_keys(struct cli *cli)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct json json;
    schema_list(&text);
    if (text.failed) {
        tamisi_buf_free(&text);
        return cli_error(cli, CLI_FAILED, "out of memory");
    }
    if (cli->json) {
        cli_json_begin(cli, &json, "spec_keys");
        json_string(&json, "text", text.data);
        cli_json_end(cli, &json);
    } else {
        fwrite(text.data, 1, text.size, stdout);
    }
    tamisi_buf_free(&text);
    return CLI_OK;
}

static const struct cli_command command_keys = {
    .name = "spec keys",
    .operands = "",
    .operand_max = 0,
    .summary = "list all that a spec can say",
    .description =
        "List every key of a spec with its type, range, default and meaning, and the tile parameters of each "
        "template.",
    .examples = "tamis spec keys\n",
    .run = run_keys};

static const struct cli_command *const children[] = {&command_check, &command_show, &command_keys, &cmd_spec_import, NULL};

const struct cli_command cmd_spec = {
    .name = "spec",
    .operands = "check|show|keys|import [argument...]",
    .operand_max = -1,
    .summary = "check specs, print them, list what they can say, import models",
    .description =
        "Look at specs, the YAML files that kernels are made from.",
    .children = children};
