/*
 * cmd_export.c: `tamis export`: what of a store a host ships, as one file or as C sources.
 */
#include "cmd.h"
#include "export.h"

#include <stdio.h>
#include <string.h>

static int check_arguments(struct cli *cli)
{
    const char *prefix = cli_value(cli, "prefix");
    if (!cli_value(cli, "output")) return cli_usage(cli, "-o is missing: what to write");
    if (cli_given(cli, "c") && cli_given(cli, "sources-only"))
        return cli_usage(cli, "--c embeds cubins: it has no --sources-only");
    if (prefix && !cli_given(cli, "c")) return cli_usage(cli, "--prefix: is for --c");
    if (prefix && !export_prefix_is_fine(prefix))
        return cli_usage(cli, "--prefix: \"%s\" is no name of a-z, 0-9 and _ of at most 40 letters, a letter first", prefix);
    return CLI_OK;
}

static void report(struct cli *cli, const struct export_counts *counts, double seconds)
{
    const char *output = cli_value(cli, "output");
    struct json json;
    if (!cli->json) {
        cli_print(cli, "%s: %lld specs, %lld variants, %lld cubins, %lld bytes\n", output, counts->specs, counts->variants,
                  counts->cubins, counts->bytes);
        return;
    }
    cli_json_begin(cli, &json, "export");
    json_string(&json, "store", cli->operands[0]);
    json_string(&json, "output", output);
    json_bool(&json, "c", cli_given(cli, "c"));
    json_int(&json, "specs", counts->specs);
    json_int(&json, "variants", counts->variants);
    json_int(&json, "sources", counts->sources);
    json_int(&json, "cubins", counts->cubins);
    json_int(&json, "timings", counts->timings);
    json_int(&json, "bytes", counts->bytes);
    json_real(&json, "seconds", seconds);
    cli_json_end(cli, &json);
}

static int export(struct cli *cli, const struct export_set *set)
{
    const bool as_c = cli_given(cli, "c"), sources_only = cli_given(cli, "sources-only");
    const char *output = cli_value(cli, "output"), *prefix = cli_value(cli, "prefix");
    const double started = cli_seconds();
    struct export_counts counts = {.bytes = 0};
    int code = sources_only ? CLI_OK : export_check_cubins(cli, set);
    if (code == CLI_OK && as_c) code = export_c(cli, set, output, prefix ? prefix : EXPORT_PREFIX, &counts);
    else if (code == CLI_OK) code = export_bundle(cli, set, output, sources_only, &counts);
    if (code == CLI_OK) report(cli, &counts, cli_seconds() - started);
    return code;
}

static int run(struct cli *cli)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, cli};
    struct export_choice choice = {.spec = cli_value(cli, "spec"),
                                   .defaults_only = cli_given(cli, "defaults-only"),
                                   .operator_only = cli_given(cli, "c")};
    struct export_set set;
    tamis_store *store;
    cli_catch_interrupt();
    int code = check_arguments(cli);
    if (code == CLI_OK) code = arch_list_read(cli, &choice.archs);
    if (code != CLI_OK) return code;
    const tamis_status status = tamis_store_open(&store, cli->operands[0], &options);
    if (status != TAMIS_OK) return cli_fail(cli, status);
    code = export_choose(cli, &set, store, &choice);
    if (code == CLI_OK) code = export(cli, &set);
    export_set_free(&set);
    tamis_store_free(store);
    return code;
}

static const struct cli_option options[] = {
    {"output", 'o', "PATH", "the bundle to write; with --c the folder"},
    {"spec", 0, "NAME", "only this spec's variants"},
    {"arch", 0, "ARCH,...", "only these architectures, with commas between"},
    {"defaults-only", 0, NULL, "only the first variant of each kernel"},
    {"sources-only", 0, NULL, "no cubins: hosts compile with NVRTC"},
    {"c", 0, NULL, "write C sources with the cubins embedded and a launcher, in place of a bundle"},
    {"prefix", 0, "NAME", "what files and symbols of --c start with; default: " EXPORT_PREFIX},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {{CLI_COMPILE, "a variant is not compiled; nothing was written"},
                                             {CLI_INTERRUPTED, "interrupted by Ctrl-C; nothing was written"},
                                             {0, NULL}};

const struct cli_command cmd_export = {
    .name = "export",
    .operands = "STORE -o PATH [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "write what a host ships: one file, or C sources",
    .description =
        "Copy specs, variants, sources, cubins and timings of STORE into a bundle: a store of its own, compacted, which "
        "replaces PATH when it is whole. A host opens it like any store, on a read-only medium too. Each variant "
        "must be compiled, so that hosts need no NVRTC; of cubins by several compilers the newest goes along.\n"
        "With --c PATH is a folder, absent or empty, that gets C11 sources with the cubins embedded, the headers of "
        "their arguments and a launcher that loads the kernels, launches a stage on the caller's grid, and makes the "
        "lists of a block pattern: a host needs the driver alone, but makes its own plan.",
    .options = options,
    .exits = exits,
    .examples = "tamis export my.tamis -o bundle.tamis --arch sm_80,sm_90a\n"
                "tamis export --c my.tamis -o kernels --defaults-only --prefix my_kernels\n",
    .run = run};
