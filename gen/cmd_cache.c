/*
 * cmd_cache.c: `tamis cache ls`, `gc` and `verify`: what a store holds, without what nothing refers to, and whether it is
 * whole. Of the user's cache where no STORE is named.
 */
#include "cmd.h"
#include "error.h"
#include "store.h"

#include <stdio.h>
#include <string.h>

/*
 * Open the named store, or the user's cache; NULL with CLI_OK where there is no cache yet, which is not a failure and has been
 * said.
 */
static int open_store(tamis_store **out, struct cli *cli, tamis_store_mode mode)
{
    const char *path = cli->operand_count ? cli->operands[0] : NULL;
    tamis_store_options options = {sizeof options, mode, cli_log, cli};
    tamis_status status = tamis_store_open(out, path, &options);
    if (status == TAMIS_EIO && mode == TAMIS_STORE_READ) { /* after a write that was cut off: opening it so mends it */
        options.mode = TAMIS_STORE_WRITE;
        status = tamis_store_open(out, path, &options);
    }
    if (status == TAMIS_OK) return CLI_OK;
    *out = NULL;
    if (path || status != TAMIS_ENOTFOUND) return cli_fail(cli, status);
    cli_note(cli, "no cache yet: %s", tamis_last_error());
    return CLI_OK;
}

/* ---- ls */

struct listing {
    struct cli *cli;
    struct cli_table table;
    long long items, bytes, damaged;
};

static int list_item(void *payload, const struct tamisi_store_item *item)
{
    struct listing *listing = payload;
    struct json json;
    listing->items++;
    listing->bytes += item->bytes;
    listing->damaged += !item->intact;
    if (listing->cli->json) {
        cli_json_begin(listing->cli, &json, "item");
        json_string(&json, "kind", item->kind);
        json_string(&json, "name", item->name);
        json_string(&json, "arch", item->arch);
        json_string(&json, "key", item->key);
        json_int(&json, "bytes", item->bytes);
        json_bool(&json, "intact", item->intact);
        cli_json_end(listing->cli, &json);
        return 0;
    }
    cli_table_add(&listing->table, "%s", item->kind);
    cli_table_add(&listing->table, "%s", item->name);
    cli_table_add(&listing->table, "%s", item->arch);
    cli_table_add(&listing->table, "%s", item->key);
    cli_table_add(&listing->table, "%lld", item->bytes);
    cli_table_add(&listing->table, "%s", item->intact ? "" : "damaged");
    return listing->table.failed;
}

static int run_ls(struct cli *cli)
{
    static const char *const heads[] = {"KIND", "NAME", "ARCH", "KEY", "BYTES", "STATE"};
    struct listing listing = {.cli = cli};
    tamis_store *store;
    const int code = open_store(&store, cli, TAMIS_STORE_READ);
    if (code != CLI_OK || !store) return code;
    cli_table_init(&listing.table, heads, 6, 1u << 4);
    const tamis_status status = tamisi_store_visit(store, list_item, &listing);
    if (!cli->json && listing.items > 0) cli_table_print(&listing.table, cli);
    cli_table_free(&listing.table);
    if (status == TAMIS_OK)
        cli_note(cli, "%s: %lld items, %lld bytes, %lld damaged", tamisi_store_path(store), listing.items, listing.bytes,
                 listing.damaged);
    tamis_store_free(store);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

static const struct cli_command command_ls = {
    .name = "cache ls",
    .operands = "[STORE]",
    .operand_max = 1,
    .summary = "list what a store holds",
    .description =
        "List the specs, sources, variants, cubins and timings of STORE, of the user's cache without one: kind, name, "
        "architecture, content key, bytes, and whether its checksum fails.",
    .examples = "tamis cache ls\n"
                "tamis cache ls my.tamis --json\n",
    .run = run_ls};

/* ---- gc */

static int run_gc(struct cli *cli)
{
    struct tamisi_store_gc_result result = {0, 0};
    struct json json;
    tamis_store *store;
    const int code = open_store(&store, cli, TAMIS_STORE_WRITE);
    if (code != CLI_OK || !store) return code;
    const tamis_status status = tamisi_store_gc(store, &result);
    if (status == TAMIS_OK && cli->json) {
        cli_json_begin(cli, &json, "gc");
        json_string(&json, "store", tamisi_store_path(store));
        json_int(&json, "removed", result.removed);
        json_int(&json, "freed_bytes", result.freed_bytes);
        cli_json_end(cli, &json);
    } else if (status == TAMIS_OK) {
        cli_print(cli, "%s: %lld items removed, %lld bytes freed\n", tamisi_store_path(store), result.removed,
                  result.freed_bytes);
    }
    tamis_store_free(store);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

static const struct cli_command command_gc = {
    .name = "cache gc",
    .operands = "[STORE]",
    .operand_max = 1,
    .summary = "remove what is damaged or no longer referred to",
    .description =
        "Remove from STORE, from the user's cache without one, damaged items, and sources, cubins and timings that no "
        "variant refers to. A store without variants is a cache: there only damage goes.",
    .examples = "tamis cache gc my.tamis\n",
    .run = run_gc};

/* ---- verify */

static int count_damage(void *payload, const struct tamisi_store_item *item)
{
    struct listing *listing = payload;
    listing->items++;
    listing->bytes += item->bytes;
    if (item->intact) return 0;
    listing->damaged++;
    cli_warn(listing->cli, "damaged: %s %s %s", item->kind, item->name, item->arch);
    return 0;
}

static void report_verdict(struct cli *cli, const tamis_store *store, const struct listing *listing, const char *problem)
{
    const bool sound = *problem == '\0' && listing->damaged == 0;
    struct json json;
    if (!cli->json) {
        cli_print(cli, "%s: %lld items, %lld damaged, structure %s\n", tamisi_store_path(store), listing->items,
                  listing->damaged, *problem ? "damaged" : "sound");
        return;
    }
    cli_json_begin(cli, &json, "cache_verify");
    json_string(&json, "store", tamisi_store_path(store));
    json_bool(&json, "sound", sound);
    json_int(&json, "items", listing->items);
    json_int(&json, "damaged", listing->damaged);
    json_string(&json, "problem", problem);
    cli_json_end(cli, &json);
}

static int run_verify(struct cli *cli)
{
    struct listing listing = {.cli = cli};
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    tamis_store *store;
    int code = open_store(&store, cli, TAMIS_STORE_READ);
    if (code != CLI_OK || !store) return code;
    tamis_status status = tamisi_store_check(store, &problem);
    if (status == TAMIS_OK) status = tamisi_store_visit(store, count_damage, &listing);
    if (status == TAMIS_OK) {
        report_verdict(cli, store, &listing, problem.data);
        if (*problem.data || listing.damaged > 0)
            code = cli_error_detail(cli, CLI_FAILED, problem.data,
                                    "%s is damaged: 'tamis cache gc' drops what is, 'tamis gen' makes it anew",
                                    tamisi_store_path(store));
    } else {
        code = cli_fail(cli, status);
    }
    tamisi_buf_free(&problem);
    tamis_store_free(store);
    return code;
}

static const struct cli_exit_text verify_exits[] = {{CLI_FAILED, "the store is damaged, or cannot be read"}, {0, NULL}};

static const struct cli_command command_verify = {
    .name = "cache verify",
    .operands = "[STORE]",
    .operand_max = 1,
    .summary = "check every item's checksum and the file's structure",
    .description =
        "Check STORE, the user's cache without one: SQLite's own integrity check, then the checksum of every "
        "item. Changes nothing. A damaged item is never used: it counts as absent and is made anew.",
    .exits = verify_exits,
    .examples = "tamis cache verify my.tamis\n",
    .run = run_verify};

static const struct cli_command *const children[] = {&command_ls, &command_gc, &command_verify, NULL};

const struct cli_command cmd_cache = {
    .name = "cache",
    .operands = "ls|gc|verify [STORE]",
    .operand_max = -1,
    .summary = "look into a store or the user's cache, and clean it",
    .description =
        "Look into a store, or into the user's cache, $TAMIS_CACHE_DIR/cache.tamis, else "
        "$XDG_CACHE_HOME/tamis/cache.tamis, else ~/.cache/tamis/cache.tamis.",
    .children = children};
