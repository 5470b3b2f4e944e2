/*
 * kernel_table.c: the table of kernels, in text or JSON, and what to warn of. Decides nothing.
 */
#include "kernel_table.h"

#include <string.h>

static const char *const heads[] = {"VARIANT", "ARCH",  "RANK",  "KERNEL", "THREADS", "REGISTERS",
                                    "SHARED",  "STACK", "SPILL", "WHY"};
#define COLUMNS 10 /* the last, the reason, may be left out */
#define RIGHT (1u << 2 | 0x1f0u) /* RANK, and THREADS to SPILL */

/* The compiler's report of one kernel, or NULL. */
static const struct tamisi_resource *kernel_resource(const char *symbol, const struct tamisi_resource *resources, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(resources[i].symbol, symbol) == 0) return &resources[i];
    return NULL;
}

void kernel_table_open(struct kernel_table *table, struct cli *cli, bool reasons)
{
    table->cli = cli;
    table->reasons = reasons;
    cli_table_init(&table->table, heads, reasons ? COLUMNS : COLUMNS - 1, RIGHT);
}

static void add_json(struct cli *cli, const struct tamisi_variant *variant, const struct tamisi_entry *entry,
                     const struct tamisi_resource *resource, const char *reason)
{
    struct json json;
    cli_json_begin(cli, &json, "kernel");
    json_string(&json, "spec", variant->spec);
    json_string(&json, "family", variant->family);
    json_string(&json, "variant", variant->name);
    json_string(&json, "arch", variant->arch);
    json_int(&json, "rank", variant->rank);
    json_string(&json, "params", variant->params);
    json_string(&json, "stage", entry->stage);
    json_string(&json, "symbol", entry->symbol);
    json_int(&json, "threads", entry->threads);
    json_int(&json, "dynamic_shared_bytes", entry->shared_bytes);
    json_bool(&json, "compiled", resource != NULL);
    if (resource) {
        json_int(&json, "registers", resource->registers);
        json_int(&json, "static_shared_bytes", resource->shared_bytes);
        json_int(&json, "stack_bytes", resource->stack_bytes);
        json_int(&json, "spill_store_bytes", resource->spill_stores);
        json_int(&json, "spill_load_bytes", resource->spill_loads);
        json_bool(&json, "serialized_wgmma", resource->serialized_wgmma);
    }
    json_string(&json, "reason", reason);
    cli_json_end(cli, &json);
}

static void add_row(struct cli_table *table, const struct tamisi_variant *variant, const struct tamisi_entry *entry,
                    const struct tamisi_resource *resource, const char *reason)
{
    cli_table_add(table, "%s", variant->name);
    cli_table_add(table, "%s", variant->arch);
    cli_table_add(table, "%d", variant->rank);
    cli_table_add(table, "%s", entry->stage);
    cli_table_add(table, "%d", entry->threads);
    if (resource) {
        cli_table_add(table, "%d", resource->registers);
        cli_table_add(table, "%d", entry->shared_bytes + resource->shared_bytes);
        cli_table_add(table, "%d", resource->stack_bytes);
        cli_table_add(table, "%d", resource->spill_stores + resource->spill_loads);
    } else {
        cli_table_add(table, "-");
        cli_table_add(table, "%d", entry->shared_bytes);
        cli_table_add(table, "-");
        cli_table_add(table, "-");
    }
    if (reason) cli_table_add(table, "%s", reason);
}

void kernel_table_add(struct kernel_table *table, const struct tamisi_variant *variant,
                      const struct tamisi_resource *resources, int count, const char *reason)
{
    for (int i = 0; i < variant->entry_count; i++) {
        const struct tamisi_entry *entry = &variant->entries[i];
        const struct tamisi_resource *resource = kernel_resource(entry->symbol, resources, count);
        if (table->cli->json)
            add_json(table->cli, variant, entry, resource, reason);
        else
            add_row(&table->table, variant, entry, resource, !table->reasons ? NULL : i == 0 ? reason : "");
    }
}

void kernel_table_close(struct kernel_table *table)
{
    if (!table->cli->json && table->table.count > 0) cli_table_print(&table->table, table->cli);
    cli_table_free(&table->table);
}

bool kernel_warn_serialized(struct cli *cli, const struct tamisi_variant *variant, const struct tamisi_resource *resources,
                            int count)
{
    bool any = false;
    for (int i = 0; i < count; i++) {
        if (!resources[i].serialized_wgmma) continue;
        any = true;
        cli_warn(cli, "%s for %s: the compiler serialised its wgmma: right, but slow", resources[i].symbol, variant->arch);
    }
    return any;
}
