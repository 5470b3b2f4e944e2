/*
 * cmd_merge.c: `tamis import` and `tamis merge`: the union of stores, into one that is there or as a new file. What
 * conflicts is always said, and is settled by --prefer alone.
 */
#define _GNU_SOURCE
#include "cmd.h"
#include "error.h"
#include "new_store.h"
#include "store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const sides[] = {"first", "last", NULL};

struct joining {
    struct cli *cli;
    int side; /* of `sides`; -1: a conflict is a failure */
    const char *from; /* what is being added */
    tamis_store **stores;
    int count; /* of those open */
    struct tamisi_merge merge;
};

/* ---- conflicts */

static void report_conflict(void *payload, const struct tamisi_store_conflict *conflict)
{
    const struct joining *joining = payload;
    struct cli *cli = joining->cli;
    const char *wins = joining->side < 0 ? "no one" : sides[joining->side];
    char name[TAMISI_SYMBOL_SIZE + 32] = "";
    struct json json;
    if (conflict->variant) snprintf(name, sizeof name, " %s for %s", conflict->variant, conflict->arch);
    cli_warn(cli, "conflict: %s %s%s is another one in %s; %s wins", conflict->kind, conflict->spec, name, joining->from,
             wins);
    if (!cli->json) return;
    cli_json_begin(cli, &json, "conflict");
    json_string(&json, "kind", conflict->kind);
    json_string(&json, "spec", conflict->spec);
    json_string(&json, "variant", conflict->variant);
    json_string(&json, "arch", conflict->arch);
    json_string(&json, "from", joining->from);
    json_string(&json, "wins", joining->side < 0 ? NULL : sides[joining->side]);
    cli_json_end(cli, &json);
}

/* ---- joining */

/* All are opened before anything is written: a wrong name costs nothing. */
static int open_all(struct joining *joining)
{
    struct cli *cli = joining->cli;
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, cli};
    joining->side = -1;
    if (!cli_choice(cli, "prefer", &joining->side)) return CLI_USAGE;
    joining->merge.prefer_last = joining->side == 1;
    joining->merge.report = report_conflict;
    joining->merge.payload = joining;
    joining->stores = calloc((size_t)cli->operand_count, sizeof(tamis_store *));
    if (!joining->stores) return cli_error(cli, CLI_FAILED, "out of memory for %d stores", cli->operand_count);
    for (; joining->count < cli->operand_count; joining->count++) {
        tamis_store **store = &joining->stores[joining->count];
        const tamis_status status = tamis_store_open(store, cli->operands[joining->count], &options);
        if (status != TAMIS_OK) return cli_fail(cli, status);
    }
    return CLI_OK;
}

/* Into a store with a transaction open, which the caller ends. */
static int add_all(struct joining *joining, tamis_store *into)
{
    struct cli *cli = joining->cli;
    for (int i = 0; i < joining->count; i++) {
        if (cli_interrupted()) return cli_error(cli, CLI_INTERRUPTED, "interrupted: nothing was written");
        joining->from = cli->operands[i];
        const tamis_status status = tamisi_store_merge(into, joining->stores[i], &joining->merge);
        if (status != TAMIS_OK) return cli_fail(cli, status);
    }
    if (joining->side >= 0 || joining->merge.conflicts == 0) return CLI_OK;
    return cli_error(cli, CLI_FAILED, "%lld conflicts, so nothing was written: --prefer first or --prefer last settles them",
                     joining->merge.conflicts);
}

static void print_result(struct joining *joining, const char *type, const char *path)
{
    const struct tamisi_merge *merge = &joining->merge;
    struct cli *cli = joining->cli;
    struct json json;
    if (!cli->json) {
        cli_print(cli, "%s: %lld items added, %lld there already, %lld conflicts, %lld damaged\n", path, merge->added,
                  merge->kept, merge->conflicts, merge->damaged);
        return;
    }
    cli_json_begin(cli, &json, type);
    json_string(&json, "store", path);
    json_int(&json, "added", merge->added);
    json_int(&json, "kept", merge->kept);
    json_int(&json, "conflicts", merge->conflicts);
    json_int(&json, "left_out", merge->left_out);
    json_int(&json, "damaged", merge->damaged);
    json_bool(&json, "torn", merge->torn);
    cli_json_end(cli, &json);
}

/* What is damaged was left out, and that is no success. */
static int judge(struct joining *joining)
{
    const struct tamisi_merge *merge = &joining->merge;
    if (merge->torn)
        return cli_error(joining->cli, CLI_FAILED, "pages of a store are damaged or missing: what could be read was written");
    if (merge->damaged > 0)
        return cli_error(joining->cli, CLI_FAILED, "%lld damaged items were left out; the rest was written", merge->damaged);
    return CLI_OK;
}

static void joining_free(struct joining *joining)
{
    for (int i = 0; i < joining->count; i++) tamis_store_free(joining->stores[i]);
    free(joining->stores);
}

static const struct cli_exit_text exits[] = {
    {CLI_FAILED, "a conflict without --prefer: nothing was written. Or something is damaged: all else was written. Or a "
                 "file cannot be read or written"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; nothing was written"},
    {0, NULL}};

#define PREFER {"prefer", 0, "first|last", "where two stores conflict: first, what came before stays; last, it is replaced"}

/* ---- import */

static int import_into(struct joining *joining, const char *path)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_CREATE, cli_log, joining->cli};
    tamis_store *into;
    tamis_status status = tamis_store_open(&into, path, &options);
    if (status != TAMIS_OK) return cli_fail(joining->cli, status);
    status = tamisi_store_begin(into);
    int code = status == TAMIS_OK ? add_all(joining, into) : cli_fail(joining->cli, status);
    if (code == CLI_OK) {
        status = tamisi_store_commit(into);
        if (status != TAMIS_OK) code = cli_fail(joining->cli, status);
    }
    tamis_store_free(into); /* which rolls back what was not committed */
    return code;
}

static int run_import(struct cli *cli)
{
    struct joining joining = {.cli = cli};
    const char *path = cli_value(cli, "into");
    cli_catch_interrupt();
    if (!path) return cli_usage(cli, "--into STORE is missing");
    int code = open_all(&joining);
    if (code == CLI_OK) code = import_into(&joining, path);
    if (code == CLI_OK) {
        print_result(&joining, "import", path);
        code = judge(&joining);
    }
    joining_free(&joining);
    return code;
}

static const struct cli_option import_options[] = {
    {"into", 0, "STORE", "the store to add to; made if absent"}, PREFER, {NULL, 0, NULL, NULL}};

const struct cli_command cmd_import = {
    .name = "import",
    .operands = "BUNDLE... --into STORE [--prefer SIDE]",
    .operand_min = 1,
    .operand_max = -1,
    .summary = "add what bundles or other stores hold to a store",
    .description =
        "Add specs, variants, sources, cubins and timings of each BUNDLE, which may be any store, to STORE, all or nothing. "
        "What is there already stays. A spec of one name with other content, or a variant with other content, is a "
        "conflict: each is reported, and without --prefer nothing is written. A spec that loses takes its variants "
        "with it. Damaged items are left out with a warning.",
    .options = import_options,
    .exits = exits,
    .examples = "tamis import bundle.tamis --into my.tamis\n"
                "tamis import a.tamis b.tamis --into my.tamis --prefer last\n",
    .run = run_import};

/* ---- merge */

static int merge_to(struct joining *joining, const char *path)
{
    struct new_store output;
    long long bytes;
    int code = new_store_open(joining->cli, &output, path);
    if (code == CLI_OK) code = add_all(joining, output.store);
    if (code == CLI_OK) code = new_store_finish(joining->cli, &output, &bytes);
    new_store_free(&output);
    return code;
}

static int run_merge(struct cli *cli)
{
    struct joining joining = {.cli = cli};
    const char *path = cli_value(cli, "output");
    cli_catch_interrupt();
    if (!path) return cli_usage(cli, "-o OUT is missing");
    int code = open_all(&joining);
    if (code == CLI_OK) code = merge_to(&joining, path);
    if (code == CLI_OK) {
        print_result(&joining, "merge", path);
        code = judge(&joining);
    }
    joining_free(&joining);
    return code;
}

static const struct cli_option merge_options[] = {
    {"output", 'o', "OUT", "the store to make; replaced if there, when the new one is whole"}, PREFER, {NULL, 0, NULL, NULL}};

const struct cli_command cmd_merge = {
    .name = "merge",
    .operands = "STORE... -o OUT [--prefer SIDE]",
    .operand_min = 1,
    .operand_max = -1,
    .summary = "make one store of several",
    .description =
        "Write the union of each STORE to OUT, compacted. Conflicts and damage are treated as by 'tamis import', the "
        "stores in the order given. OUT may be one of them.",
    .options = merge_options,
    .exits = exits,
    .examples = "tamis merge sm80.tamis sm90.tamis -o both.tamis\n",
    .run = run_merge};
