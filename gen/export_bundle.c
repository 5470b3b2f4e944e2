/*
 * export_bundle.c: a choice of a store as a store of its own: what a host ships, and opens on a read-only medium.
 */
#define _GNU_SOURCE
#include "export.h"

#include "compile.h"
#include "error.h"
#include "new_store.h"

#include <stdlib.h>
#include <string.h>

static tamis_status put_source(tamis_store *into, const struct export_set *set, const struct tamisi_variant *variant)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    tamis_status status = tamisi_store_get_source(&text, set->store, &variant->source);
    if (status == TAMIS_OK) status = tamisi_store_put_source(into, &variant->source, variant->name, text.data);
    tamisi_buf_free(&text);
    return status;
}

static tamis_status put_cubin(tamis_store *into, const struct export_set *set, const struct tamisi_variant *variant)
{
    char options[TAMISI_OPTIONS_SIZE];
    struct tamisi_cubin cubin = {0};
    tamisi_compile_options(options, variant->arch);
    TAMIS_TRY(export_get_cubin(&cubin, set, variant));
    struct tamisi_compiled compiled = {
        .cubin = cubin.data, .cubin_bytes = cubin.bytes, .resource_count = cubin.resource_count};
    memcpy(compiled.resources, cubin.resources, sizeof compiled.resources);
    const tamis_status status =
        tamisi_store_put_cubin(into, &variant->source, variant->arch, options, cubin.nvrtc, &compiled);
    tamisi_cubin_free(&cubin);
    return status;
}

static tamis_status put_variant(tamis_store *into, const struct export_set *set, const struct tamisi_variant *variant,
                                bool sources_only)
{
    TAMIS_TRY(tamisi_store_put_variant(into, variant));
    TAMIS_TRY(put_source(into, set, variant));
    return sources_only ? TAMIS_OK : put_cubin(into, set, variant);
}

/* What was timed of the variants at hand, so that a host's plans choose as they do here. */
static tamis_status put_timings(tamis_store *into, const struct export_set *set)
{
    struct tamisi_hash *sources = malloc((set->variant_count + 1) * sizeof *sources);
    if (!sources) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the timings");
    for (size_t i = 0; i < set->variant_count; i++) sources[i] = set->variants[i].source;
    const tamis_status status = tamisi_store_copy_timings(into, set->store, sources, set->variant_count);
    free(sources);
    return status;
}

static int put_all(struct cli *cli, tamis_store *into, const struct export_set *set, bool sources_only)
{
    tamis_status status = TAMIS_OK;
    for (size_t i = 0; i < set->spec_count && status == TAMIS_OK; i++)
        status = tamisi_store_put_spec(into, &set->specs[i]);
    for (size_t i = 0; i < set->variant_count && status == TAMIS_OK; i++) {
        if (cli_interrupted()) return cli_error(cli, CLI_INTERRUPTED, "interrupted: nothing was written");
        status = put_variant(into, set, &set->variants[i], sources_only);
    }
    if (status == TAMIS_OK) status = put_timings(into, set);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

static int count_item(void *payload, const struct tamisi_store_item *item)
{
    struct export_counts *counts = payload;
    const struct {
        const char *kind;
        long long *count;
    } kinds[] = {{"spec", &counts->specs}, {"source", &counts->sources}, {"variant", &counts->variants},
                 {"cubin", &counts->cubins}, {"timing", &counts->timings}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) *kinds[i].count += strcmp(item->kind, kinds[i].kind) == 0;
    return 0;
}

int export_bundle(struct cli *cli, const struct export_set *set, const char *path, bool sources_only,
                  struct export_counts *counts)
{
    struct new_store bundle;
    int code = new_store_open(cli, &bundle, path);
    if (code == CLI_OK) code = put_all(cli, bundle.store, set, sources_only);
    if (code == CLI_OK) {
        const tamis_status status = tamisi_store_visit(bundle.store, count_item, counts);
        if (status != TAMIS_OK) code = cli_fail(cli, status);
    }
    if (code == CLI_OK) code = new_store_finish(cli, &bundle, &counts->bytes);
    new_store_free(&bundle);
    return code;
}
