/*
 * store_admin.c: what `tamis cache` does to a store: list, collect garbage, make smaller, check. Layer: above store, beside
 * store_rows.
 */
#include "store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ----------------------------------------------------------------------------------------------------------- visit */

struct visit {
    int (*visit)(void *payload, const struct tamisi_store_item *item);
    void *payload;
    bool stopped;
};

static void copy_hex(char out[TAMISI_HASH_HEX_SIZE], const struct tamisi_value *value)
{
    struct tamisi_hash hash;

    if (value->bytes != sizeof hash.bytes) return;
    memcpy(hash.bytes, value->data, sizeof hash.bytes);
    tamisi_hash_hex(&hash, out);
}

static void copy_text(char *out, size_t size, const struct tamisi_value *value)
{
    size_t bytes = value->bytes < size ? value->bytes : size - 1;

    for (size_t i = 0; i < bytes; i++) out[i] = value->data[i] > ' ' && value->data[i] < 0x7f ? value->data[i] : '?';
    out[bytes] = '\0';
}

/* A cubin's key is the compiler's: source, options and who compiled. */
static void copy_cubin_key(char out[TAMISI_HASH_HEX_SIZE], const struct tamisi_row *row)
{
    struct tamisi_hash source, key;

    if (row->values[TAMISI_CUBIN_SOURCE].bytes != sizeof source.bytes) return;
    memcpy(source.bytes, row->values[TAMISI_CUBIN_SOURCE].data, sizeof source.bytes);
    key = tamisi_compile_key(&source, row->values[TAMISI_CUBIN_OPTIONS].data, row->values[TAMISI_CUBIN_NVRTC].data);
    tamisi_hash_hex(&key, out);
}

static bool visit_row(void *payload, const struct tamisi_row *row)
{
    struct visit *visit = payload;
    struct tamisi_store_item item = {.bytes = 0, .intact = row->intact};

    snprintf(item.kind, sizeof item.kind, "%s", tamisi_table_info(row->table)->name);
    tamisi_row_label(row, item.name, sizeof item.name);
    for (int i = 0; i < row->count; i++) item.bytes += (long long)row->values[i].bytes;
    switch (row->table) {
    case TAMISI_SOURCES:
        copy_hex(item.key, &row->values[TAMISI_SOURCE_HASH]);
        break;
    case TAMISI_VARIANTS:
        copy_hex(item.key, &row->values[TAMISI_VARIANT_SOURCE]);
        copy_text(item.arch, sizeof item.arch, &row->values[TAMISI_VARIANT_ARCH]);
        break;
    case TAMISI_CUBINS:
        copy_cubin_key(item.key, row);
        copy_text(item.arch, sizeof item.arch, &row->values[TAMISI_CUBIN_ARCH]);
        break;
    case TAMISI_TIMINGS:
        copy_hex(item.key, &row->values[TAMISI_TIMING_SOURCE]);
        copy_text(item.arch, sizeof item.arch, &row->values[TAMISI_TIMING_ARCH]);
        break;
    case TAMISI_SPECS:
    case TAMISI_TABLES:
        break;
    }
    visit->stopped = visit->visit(visit->payload, &item) != 0;
    return visit->stopped;
}

tamis_status tamisi_store_visit(tamis_store *store, int (*visit)(void *payload, const struct tamisi_store_item *item),
                                void *payload)
{
    struct visit state = {visit, payload, false};
    tamis_status status = TAMIS_OK;

    tamisi_store_lock(store);
    for (int i = 0; i < TAMISI_TABLES && status == TAMIS_OK && !state.stopped; i++)
        status = tamisi_table_scan(store, (enum tamisi_table)i, TAMISI_RANGE_ALL, TAMISI_SCAN_QUIET | TAMISI_SCAN_DAMAGED,
                                   visit_row, &state);
    tamisi_store_unlock(store);
    return status;
}

/* -------------------------------------------------------------------------------------------------------------- gc */

struct garbage {
    struct tamisi_hash *sources; /* that intact variants refer to */
    size_t source_count, source_capacity;
    bool keeps_all;        /* no variants: a cache, whose kernels other stores' variants refer to */
    struct tamisi_ids ids; /* of the table at hand, to be removed */
    bool failed;
};

static int compare_hashes(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct tamisi_hash));
}

static void add_source(struct garbage *garbage, const char *bytes)
{
    if (garbage->source_count == garbage->source_capacity) {
        size_t capacity = garbage->source_capacity > 0 ? 2 * garbage->source_capacity : 64;
        struct tamisi_hash *sources = realloc(garbage->sources, capacity * sizeof *sources);

        garbage->failed = garbage->failed || sources == NULL;
        if (sources == NULL) return;
        garbage->sources = sources;
        garbage->source_capacity = capacity;
    }
    memcpy(garbage->sources[garbage->source_count++].bytes, bytes, sizeof garbage->sources->bytes);
}

/* Variants come before sources and cubins in the order of tables. */
static bool collect_row(void *payload, const struct tamisi_row *row)
{
    struct garbage *garbage = payload;
    const char *source = row->values[TAMISI_SOURCE_HASH].data;
    bool kept = row->intact;

    if (row->table == TAMISI_VARIANTS) {
        garbage->keeps_all = false;
        if (kept) add_source(garbage, row->values[TAMISI_VARIANT_SOURCE].data);
    } else if (row->table != TAMISI_SPECS && kept && !garbage->keeps_all) {
        kept = garbage->source_count > 0 && bsearch(source, garbage->sources, garbage->source_count,
                                                    sizeof *garbage->sources, compare_hashes) != NULL;
    }
    if (!kept) tamisi_ids_add(&garbage->ids, row->id);
    return garbage->failed;
}

static tamis_status collect_table(tamis_store *store, enum tamisi_table table, struct garbage *garbage, long long *removed)
{
    garbage->ids.count = 0;
    if (!tamisi_table_exists(store, table)) return TAMIS_OK;
    TAMIS_TRY(tamisi_table_scan(store, table, TAMISI_RANGE_ALL, TAMISI_SCAN_QUIET | TAMISI_SCAN_DAMAGED, collect_row,
                                garbage));
    if (garbage->failed || garbage->ids.failed) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (table == TAMISI_VARIANTS && garbage->source_count > 1)
        qsort(garbage->sources, garbage->source_count, sizeof *garbage->sources, compare_hashes);
    return tamisi_table_delete(store, table, garbage->ids.ids, garbage->ids.count, removed);
}

static tamis_status collect(tamis_store *store, long long *removed)
{
    static const enum tamisi_table order[] = {TAMISI_SPECS, TAMISI_VARIANTS, TAMISI_SOURCES, TAMISI_CUBINS,
                                               TAMISI_TIMINGS};
    struct garbage garbage = {.keeps_all = true};
    tamis_status status;
    bool own;

    TAMIS_TRY(tamisi_write_enter(store, &own));
    status = TAMIS_OK;
    for (size_t i = 0; i < sizeof order / sizeof *order && status == TAMIS_OK; i++)
        status = collect_table(store, order[i], &garbage, removed);
    tamisi_ids_free(&garbage.ids);
    free(garbage.sources);
    return tamisi_write_leave(store, own, status);
}

static long long file_bytes(const tamis_store *store)
{
    struct stat info;

    return stat(store->path, &info) == 0 ? (long long)info.st_size : 0;
}

tamis_status tamisi_store_compact(tamis_store *store)
{
    tamis_status status;

    tamisi_store_lock(store);
    status = store->in_transaction ? tamisi_fail(TAMIS_EINVAL, "store %s: a transaction is open", store->path)
                                   : tamisi_store_execute(store, "VACUUM", "make it smaller");
    tamisi_store_unlock(store);
    return status;
}

tamis_status tamisi_store_gc(tamis_store *store, struct tamisi_store_gc_result *result)
{
    long long before, removed = 0;
    tamis_status status;

    tamisi_store_lock(store);
    before = file_bytes(store);
    status = store->in_transaction ? tamisi_fail(TAMIS_EINVAL, "store %s: a transaction is open", store->path)
                                   : collect(store, &removed);
    if (status == TAMIS_OK) status = tamisi_store_compact(store);
    if (status == TAMIS_OK) {
        result->removed = removed;
        const long long after = file_bytes(store); /* more than before where another process has written since */

        result->freed_bytes = before > after ? before - after : 0;
    }
    tamisi_store_unlock(store);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- check */

tamis_status tamisi_store_check(tamis_store *store, struct tamisi_buf *problem)
{
    sqlite3_stmt *statement = NULL;
    tamis_status status = TAMIS_OK;
    int code;

    tamisi_buf_clear(problem);
    tamisi_buf_puts(problem, "");
    tamisi_store_lock(store);
    if (store->cut_short) tamisi_buf_puts(problem, "part of the file is missing\n");
    code = sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(20)", -1, &statement, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
        const char *line = (const char *)sqlite3_column_text(statement, 0);

        if (line != NULL && strcmp(line, "ok") != 0) tamisi_buf_printf(problem, "%s\n", line);
    }
    if ((code & 0xff) == SQLITE_CORRUPT) tamisi_buf_printf(problem, "%s\n", sqlite3_errmsg(store->db));
    else if (code != SQLITE_DONE) status = tamisi_store_fail(store, "check");
    sqlite3_finalize(statement);
    tamisi_store_unlock(store);
    if (status == TAMIS_OK && problem->failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    return status;
}
