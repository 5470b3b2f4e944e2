/*
 * store_kernels.c: variants and cubins, put, found and got.
 *
 * Which variant suits a problem is not decided here: a query filters, and what comes back is in order of rank.
 * Layer: above store, beside store_rows.
 */
#include "store_internal.h"

#include <stdlib.h>
#include <string.h>

/* The members of a struct are arrays: is there a zero in this one? */
#define ENDS(array) (memchr(array, '\0', sizeof(array)) != NULL)

/* -------------------------------------------------------------------------------------------------------- variants */

static bool variant_is_bounded(const struct tamisi_variant *variant)
{
    if (!ENDS(variant->spec) || !ENDS(variant->family) || !ENDS(variant->name) || !ENDS(variant->arch) ||
        !ENDS(variant->params) || variant->entry_count < 1 || variant->entry_count > TAMISI_MAX_ENTRIES)
        return false;
    for (int i = 0; i < variant->entry_count; i++)
        if (!ENDS(variant->entries[i].stage) || !ENDS(variant->entries[i].symbol)) return false;
    return true;
}

tamis_status tamisi_store_put_variant(tamis_store *store, const struct tamisi_variant *variant)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct tamisi_row row;
    tamis_status status;

    if (!variant_is_bounded(variant))
        return tamisi_fail(TAMIS_EINVAL, "variant: a text is too long, or it has not 1 to %d entries", TAMISI_MAX_ENTRIES);
    tamisi_row_from_variant(&row, variant, &text);
    if (text.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    else if (!tamisi_row_well_formed(&row))
        status = tamisi_fail(TAMIS_EINVAL, "variant %s: an entry has a blank in its name or a negative size", variant->name);
    else status = tamisi_table_put(store, &row, (struct tamisi_range){row.id, row.id}, row.count);
    tamisi_buf_free(&text);
    return status;
}

/* Collects ids of rows that have these texts; damaged ones too where they are still readable. */
struct drop {
    const char *spec;
    const char *arch;
    struct tamisi_ids ids;
};

static bool visit_drop(void *payload, const struct tamisi_row *row)
{
    struct drop *drop = payload;

    if (strcmp(row->values[TAMISI_VARIANT_SPEC].data, drop->spec) == 0 &&
        (drop->arch == NULL || strcmp(row->values[TAMISI_VARIANT_ARCH].data, drop->arch) == 0))
        tamisi_ids_add(&drop->ids, row->id);
    return false;
}

static tamis_status drop_rows(tamis_store *store, struct drop *drop)
{
    TAMIS_TRY(tamisi_table_scan(store, TAMISI_VARIANTS, TAMISI_RANGE_ALL, TAMISI_SCAN_DAMAGED, visit_drop, drop));
    if (drop->ids.failed) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    return tamisi_table_delete(store, TAMISI_VARIANTS, drop->ids.ids, drop->ids.count, NULL);
}

tamis_status tamisi_store_drop_variants(tamis_store *store, const char *spec, const char *arch)
{
    struct drop drop = {spec, arch, {NULL, 0, 0, false}};
    tamis_status status;
    bool own;

    tamisi_store_lock(store);
    status = tamisi_write_enter(store, &own);
    if (status == TAMIS_OK) status = tamisi_write_leave(store, own, drop_rows(store, &drop));
    tamisi_store_unlock(store);
    tamisi_ids_free(&drop.ids);
    return status;
}

struct variant_search {
    const struct tamisi_variant_query *query;
    struct tamisi_variant *variants;
    size_t count, capacity;
    bool failed;
};

static bool text_matches(const char *wanted, const char *text)
{
    return wanted == NULL || strcmp(wanted, text) == 0;
}

static bool variant_matches(const struct tamisi_variant *variant, const struct tamisi_variant_query *query)
{
    return text_matches(query->spec, variant->spec) && text_matches(query->family, variant->family) &&
           text_matches(query->arch, variant->arch) &&
           (query->dtype < 0 || variant->dtype == TAMISI_ANY || variant->dtype == query->dtype) &&
           (query->head_dim < 0 || variant->head_dim == 0 || variant->head_dim == query->head_dim);
}

static bool visit_variant(void *payload, const struct tamisi_row *row)
{
    struct variant_search *search = payload;
    struct tamisi_variant variant;

    if (!tamisi_row_to_variant(&variant, row) || !variant_matches(&variant, search->query)) return false;
    if (search->count == search->capacity) {
        size_t capacity = search->capacity > 0 ? 2 * search->capacity : 16;
        struct tamisi_variant *variants = realloc(search->variants, capacity * sizeof *variants);

        search->failed = variants == NULL;
        if (search->failed) return true;
        search->variants = variants;
        search->capacity = capacity;
    }
    search->variants[search->count++] = variant;
    return false;
}

/* Rank, spec and name, as promised; then the rest of the key, so that the order is one. */
static int compare_variants(const void *a, const void *b)
{
    const struct tamisi_variant *x = a, *y = b;
    int order = (x->rank > y->rank) - (x->rank < y->rank);

    if (order == 0) order = strcmp(x->spec, y->spec);
    if (order == 0) order = strcmp(x->name, y->name);
    if (order == 0) order = strcmp(x->arch, y->arch);
    if (order == 0) order = strcmp(x->family, y->family);
    if (order == 0) order = (x->dtype > y->dtype) - (x->dtype < y->dtype);
    if (order == 0) order = (x->head_dim > y->head_dim) - (x->head_dim < y->head_dim);
    return order;
}

tamis_status tamisi_store_find_variants(struct tamisi_variant **out, size_t *count, tamis_store *store,
                                        const struct tamisi_variant_query *query)
{
    struct variant_search search = {query, NULL, 0, 0, false};
    struct tamisi_range range = TAMISI_RANGE_ALL;
    tamis_status status;

    if (query->family != NULL && query->arch != NULL) range = tamisi_variant_range(query->family, query->arch);
    tamisi_store_lock(store);
    status = tamisi_table_scan(store, TAMISI_VARIANTS, range, 0, visit_variant, &search);
    tamisi_store_unlock(store);
    if (status == TAMIS_OK && search.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status != TAMIS_OK) {
        free(search.variants);
        return status;
    }
    if (search.count > 1) qsort(search.variants, search.count, sizeof *search.variants, compare_variants);
    *out = search.variants;
    *count = search.count;
    return TAMIS_OK;
}

/* ---------------------------------------------------------------------------------------------------------- cubins */

static bool compiled_is_bounded(const struct tamisi_compiled *compiled)
{
    if (compiled->resource_count < 0 || compiled->resource_count > TAMISI_MAX_ENTRIES) return false;
    for (int i = 0; i < compiled->resource_count; i++)
        if (!ENDS(compiled->resources[i].symbol)) return false;
    return true;
}

tamis_status tamisi_store_put_cubin(tamis_store *store, const struct tamisi_hash *source, const char *arch,
                                    const char *options, const char *nvrtc_identity,
                                    const struct tamisi_compiled *compiled)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct tamisi_row row;
    tamis_status status;

    if (compiled->cubin == NULL || compiled->cubin_bytes == 0) return tamisi_fail(TAMIS_EINVAL, "cubin: is empty");
    if (!compiled_is_bounded(compiled))
        return tamisi_fail(TAMIS_EINVAL, "cubin: a symbol is too long, or it has more than %d kernels", TAMISI_MAX_ENTRIES);
    tamisi_row_from_cubin(&row, source, arch, options, nvrtc_identity, compiled, &text);
    if (text.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    else if (!tamisi_row_well_formed(&row))
        status = tamisi_fail(TAMIS_EINVAL, "cubin: the compiler's identity is too long, or its resources are malformed");
    else status = tamisi_table_put(store, &row, tamisi_cubin_range(source, arch, options), TAMISI_CUBIN_KEYS);
    tamisi_buf_free(&text);
    return status;
}

void tamisi_cubin_free(struct tamisi_cubin *cubin)
{
    free(cubin->data);
    *cubin = (struct tamisi_cubin){.data = NULL};
}

struct cubin_search {
    struct tamisi_row wanted; /* its keys, to be compared with */
    int keys;
    struct tamisi_cubin *out;
    bool found, failed;
};

static bool visit_cubin(void *payload, const struct tamisi_row *row)
{
    struct cubin_search *search = payload;
    struct tamisi_cubin cubin;
    char *data;

    if (!tamisi_row_agree(row, &search->wanted, search->keys) || !tamisi_row_to_cubin(&cubin, row)) return false;
    data = malloc(cubin.bytes);
    search->found = data != NULL;
    search->failed = data == NULL;
    if (data != NULL) {
        memcpy(data, row->values[TAMISI_CUBIN_DATA].data, cubin.bytes);
        cubin.data = data;
        *search->out = cubin;
    }
    return true;
}

tamis_status tamisi_store_get_cubin(struct tamisi_cubin *out, tamis_store *store, const struct tamisi_hash *source,
                                    const char *arch, const char *options, const char *nvrtc_identity)
{
    const struct tamisi_compiled nothing = {.cubin = NULL};
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct cubin_search search = {.out = out};
    char hex[TAMISI_HASH_HEX_SIZE];
    tamis_status status;

    tamisi_row_from_cubin(&search.wanted, source, arch, options, nvrtc_identity != NULL ? nvrtc_identity : "", &nothing,
                          &text);
    search.keys = nvrtc_identity != NULL ? TAMISI_CUBIN_KEYS : TAMISI_CUBIN_NVRTC;
    tamisi_store_lock(store);
    status = tamisi_table_scan(store, TAMISI_CUBINS, tamisi_cubin_range(source, arch, options), TAMISI_SCAN_NEWEST,
                               visit_cubin, &search);
    tamisi_store_unlock(store);
    tamisi_buf_free(&text);
    if (status == TAMIS_OK && search.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status != TAMIS_OK || search.found) return status;
    tamisi_hash_hex(source, hex);
    return tamisi_fail(TAMIS_ENOTFOUND, "store %s has no cubin of source %s for %s", store->path, hex, arch);
}
