/*
 * store_rows.c: specs and sources, put and got; and a problem filled from a spec.
 *
 * Kernels, that is variants and cubins, are in store_kernels.c. Layer: above store.
 */
#define _GNU_SOURCE

#include "options.h"
#include "store_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------------------- specs */

tamis_status tamisi_store_put_spec(tamis_store *store, const struct tamisi_spec_row *spec)
{
    const tamis_selection *selection = &spec->problem.selection;
    struct tamisi_row row;

    if (spec->name == NULL || *spec->name == '\0') return tamisi_fail(TAMIS_EINVAL, "spec: has no name");
    if (!isfinite(spec->problem.scale) || !isfinite(selection->coverage) || !isfinite(selection->ratio))
        return tamisi_fail(TAMIS_EINVAL, "spec %s: scale, coverage and ratio must be finite", spec->name);
    tamisi_row_from_spec(&row, spec);
    if (!tamisi_row_well_formed(&row))
        return tamisi_fail(TAMIS_EINVAL, "spec %s: dtype, policy or scope is none", spec->name);
    return tamisi_table_put(store, &row, (struct tamisi_range){row.id, row.id}, row.count);
}

void tamisi_spec_row_free(struct tamisi_spec_row *spec)
{
    free(spec->name);
    free(spec->sparse_layers);
    free(spec->text);
    free(spec->pattern);
    *spec = (struct tamisi_spec_row){.name = NULL};
}

/* A search for a spec by name, or for the only one. Rows do not outlive their visit, so what is found is copied. */
struct spec_search {
    const char *name;
    struct tamisi_spec_row spec; /* the last that matched */
    int matches;
    bool failed; /* memory ran out */
};

static bool visit_spec(void *payload, const struct tamisi_row *row)
{
    struct spec_search *search = payload;
    struct tamisi_spec_row *spec = &search->spec;

    if (search->name != NULL && strcmp(row->values[TAMISI_SPEC_NAME].data, search->name) != 0) return false;
    search->matches++;
    tamisi_spec_row_free(spec);
    tamisi_row_to_problem(&spec->problem, row);
    spec->layers = (int)row->values[TAMISI_SPEC_LAYERS].integer;
    spec->name = strdup(row->values[TAMISI_SPEC_NAME].data);
    spec->sparse_layers = strdup(row->values[TAMISI_SPEC_SPARSE].data);
    spec->text = strdup(row->values[TAMISI_SPEC_TEXT].data);
    spec->pattern = strdup(row->count > TAMISI_SPEC_PATTERN ? row->values[TAMISI_SPEC_PATTERN].data : "");
    search->failed = spec->name == NULL || spec->sparse_layers == NULL || spec->text == NULL || spec->pattern == NULL;
    return search->failed;
}

/* Names for a message, in alphabetical order, each once. */
struct names {
    char **names;
    size_t count;
    bool failed;
};

static bool visit_name(void *payload, const struct tamisi_row *row)
{
    struct names *list = payload;
    char **names = realloc(list->names, (list->count + 1) * sizeof *names);

    list->failed = names == NULL;
    if (list->failed) return true;
    list->names = names;
    names[list->count] = strdup(row->values[TAMISI_SPEC_NAME].data);
    list->failed = names[list->count] == NULL;
    if (!list->failed) list->count++;
    return list->failed;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Set the message for a spec that is not there: which there are. */
static tamis_status no_spec(tamis_store *store, const char *name)
{
    struct names list = {NULL, 0, false};
    struct tamisi_buf text = TAMISI_BUF_INIT;
    tamis_status status = tamisi_table_scan(store, TAMISI_SPECS, TAMISI_RANGE_ALL, 0, visit_name, &list);

    if (list.count > 1) qsort(list.names, list.count, sizeof *list.names, compare_names);
    for (size_t i = 0; i < list.count; i++) {
        tamisi_buf_printf(&text, "%s%s", i > 0 ? ", " : "", list.names[i]);
        free(list.names[i]);
    }
    free(list.names);
    if (status == TAMIS_OK && (list.failed || text.failed)) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status == TAMIS_OK && list.count == 0) status = tamisi_fail(TAMIS_ENOTFOUND, "store %s has no spec", store->path);
    if (status == TAMIS_OK && name != NULL)
        status = tamisi_fail(TAMIS_ENOTFOUND, "store %s has no spec \"%s\"; it has %s", store->path, name, text.data);
    if (status == TAMIS_OK)
        status = tamisi_fail(TAMIS_ENOTFOUND, "store %s has several specs, so name one: %s", store->path, text.data);
    tamisi_buf_free(&text);
    return status;
}

tamis_status tamisi_store_get_spec(struct tamisi_spec_row *out, tamis_store *store, const char *name)
{
    struct spec_search search = {.name = name};
    struct tamisi_range range = TAMISI_RANGE_ALL;
    tamis_status status;

    if (name != NULL) range.first = range.last = tamisi_spec_id(name);
    tamisi_store_lock(store);
    status = tamisi_table_scan(store, TAMISI_SPECS, range, 0, visit_spec, &search);
    if (status == TAMIS_OK && search.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status == TAMIS_OK && search.matches != 1) status = no_spec(store, name);
    tamisi_store_unlock(store);
    if (status == TAMIS_OK) *out = search.spec;
    else tamisi_spec_row_free(&search.spec);
    return status;
}

tamis_status tamis_store_problem(tamis_problem *out, tamis_store *store, const char *name)
{
    struct tamisi_spec_row spec;
    size_t struct_size;

    tamisi_error_clear();
    if (out == NULL) return tamisi_fail(TAMIS_EINVAL, "out: is NULL");
    if (store == NULL) return tamisi_fail(TAMIS_EINVAL, "store: is NULL");
    struct_size = out->struct_size;
    if (struct_size < TAMISI_PROBLEM_LEAST_BYTES)
        return tamisi_fail(TAMIS_EINVAL, "out: struct_size is %zu, at least %zu is needed: use TAMIS_PROBLEM_INIT",
                           struct_size, TAMISI_PROBLEM_LEAST_BYTES);
    TAMIS_TRY(tamisi_store_get_spec(&spec, store, name));
    memcpy(out, &spec.problem, struct_size < sizeof *out ? TAMISI_PROBLEM_LEAST_BYTES : sizeof *out);
    out->struct_size = struct_size;
    tamisi_spec_row_free(&spec);
    return TAMIS_OK;
}

/* --------------------------------------------------------------------------------------------------------- sources */

tamis_status tamisi_store_put_source(tamis_store *store, const struct tamisi_hash *hash, const char *name, const char *text)
{
    struct tamisi_row row;

    tamisi_row_from_source(&row, hash, name, text);
    /* Content-addressed: whoever came first has put the same text. */
    return tamisi_table_put(store, &row, (struct tamisi_range){row.id, row.id}, TAMISI_SOURCE_HASH + 1);
}

struct source_search {
    const struct tamisi_hash *hash;
    struct tamisi_buf *out;
    bool found;
};

static bool visit_source(void *payload, const struct tamisi_row *row)
{
    struct source_search *search = payload;
    const struct tamisi_value *text = &row->values[TAMISI_SOURCE_TEXT];

    search->found = memcmp(row->values[TAMISI_SOURCE_HASH].data, search->hash->bytes, sizeof search->hash->bytes) == 0;
    if (search->found) {
        tamisi_buf_clear(search->out);
        tamisi_buf_append(search->out, text->data, text->bytes);
    }
    return search->found;
}

tamis_status tamisi_store_get_source(struct tamisi_buf *out, tamis_store *store, const struct tamisi_hash *hash)
{
    struct source_search search = {hash, out, false};
    int64_t id = tamisi_source_id(hash);
    char hex[TAMISI_HASH_HEX_SIZE];
    tamis_status status;

    tamisi_store_lock(store);
    status = tamisi_table_scan(store, TAMISI_SOURCES, (struct tamisi_range){id, id}, 0, visit_source, &search);
    tamisi_store_unlock(store);
    if (status == TAMIS_OK && out->failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status != TAMIS_OK || search.found) return status;
    tamisi_hash_hex(hash, hex);
    return tamisi_fail(TAMIS_ENOTFOUND, "store %s has no source %s", store->path, hex);
}
