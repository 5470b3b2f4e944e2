/*
 * store_table.c: writing rows: transactions, put, delete; and how SQLite's errors become ours. Knows no table's meaning.
 *
 * Before a handle's first write the whole structure is checked, since SQLite, led astray by a damaged page, could overwrite
 * sound ones. Layer: above store_scan.
 */
#include "store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tamisi_store_lock(tamis_store *store)
{
    pthread_mutex_lock(&store->lock);
}

void tamisi_store_unlock(tamis_store *store)
{
    pthread_mutex_unlock(&store->lock);
}

/* ------------------------------------------------------------------------------------------------ SQL and errors */

tamis_status tamisi_store_fail(tamis_store *store, const char *what)
{
    const char *why = sqlite3_errmsg(store->db);

    switch (sqlite3_errcode(store->db) & 0xff) {
    case SQLITE_NOMEM:
        return tamisi_fail(TAMIS_ENOMEM, "store %s: cannot %s: out of memory", store->path, what);
    case SQLITE_NOTADB:
        return tamisi_fail(TAMIS_ECORRUPT, "%s is not a tamis store", store->path);
    case SQLITE_CORRUPT:
        return tamisi_fail(TAMIS_ECORRUPT, "store %s: cannot %s: the file is damaged", store->path, what);
    case SQLITE_TOOBIG:
        return tamisi_fail(TAMIS_EINVAL, "store %s: cannot %s: a value is longer than %d bytes", store->path, what,
                           TAMISI_STORE_MAX_VALUE);
    case SQLITE_FULL:
        return tamisi_fail(TAMIS_EIO, "store %s: cannot %s: the disk is full", store->path, what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return tamisi_fail(TAMIS_EIO, "store %s: cannot %s: in use for more than %d seconds", store->path, what,
                           TAMISI_STORE_BUSY_MS / 1000);
    case SQLITE_READONLY:
        if (sqlite3_extended_errcode(store->db) == SQLITE_READONLY_ROLLBACK)
            return tamisi_fail(TAMIS_EIO, "store %s: cannot %s: a write was cut off; open it once for writing to mend it",
                               store->path, what);
        break;
    default:
        break;
    }
    return tamisi_fail(TAMIS_EIO, "store %s: cannot %s: %s", store->path, what, why);
}

tamis_status tamisi_store_execute(tamis_store *store, const char *sql, const char *what)
{
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK) return tamisi_store_fail(store, what);
    return TAMIS_OK;
}

/* --------------------------------------------------------------------------------------------------- transactions */

/* A damaged structure makes the handle read-only. */
static tamis_status require_sound(tamis_store *store)
{
    sqlite3_stmt *statement = NULL;
    char why[120] = "malformed";
    int code;

    if (store->sound) return TAMIS_OK;
    code = sqlite3_prepare_v2(store->db, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    if (code == SQLITE_ROW && sqlite3_column_text(statement, 0) != NULL) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        const char *line = strrchr(text, '\n'); /* behind the line that names the database */

        snprintf(why, sizeof why, "%s", line != NULL ? line + 1 : text);
    }
    sqlite3_finalize(statement);
    store->sound = strcmp(why, "ok") == 0;
    if (store->sound) return TAMIS_OK;
    if (code != SQLITE_ROW && !tamisi_is_damage(code)) return tamisi_store_fail(store, "check");
    atomic_store(&store->writable, false);
    return tamisi_fail(TAMIS_ECORRUPT, "store %s: not written, as its structure is damaged (%s): remove it and make it anew",
                       store->path, why);
}

static tamis_status transaction_open(tamis_store *store)
{
    tamis_status status;

    if (!tamisi_store_writable(store)) return tamisi_fail(TAMIS_EUNSUPPORTED, "store %s is open read-only", store->path);
    tamisi_timings_forget(store);
    TAMIS_TRY(tamisi_store_execute(store, "BEGIN IMMEDIATE", "write"));
    status = require_sound(store);
    if (status != TAMIS_OK) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* After a full disk SQLite has rolled back by itself: then there is nothing to commit, and what was put is gone. */
static tamis_status transaction_close(tamis_store *store)
{
    tamis_status status;

    if (sqlite3_get_autocommit(store->db))
        return tamisi_fail(TAMIS_EIO, "store %s: the transaction was rolled back after a failed write", store->path);
    status = tamisi_store_execute(store, "COMMIT", "write");
    if (status != TAMIS_OK) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

tamis_status tamisi_store_begin(tamis_store *store)
{
    tamis_status status;

    tamisi_store_lock(store);
    status = store->in_transaction ? tamisi_fail(TAMIS_EINVAL, "store %s: a transaction is open already", store->path)
                                   : transaction_open(store);
    if (status != TAMIS_OK) {
        tamisi_store_unlock(store);
        return status;
    }
    store->in_transaction = true; /* and the lock stays held */
    return TAMIS_OK;
}

static tamis_status transaction_end(tamis_store *store, bool commit)
{
    tamis_status status = TAMIS_OK;

    tamisi_store_lock(store);
    if (!store->in_transaction) {
        tamisi_store_unlock(store);
        return commit ? tamisi_fail(TAMIS_EINVAL, "store %s: no transaction is open", store->path) : TAMIS_OK;
    }
    if (commit) status = transaction_close(store);
    else sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store->in_transaction = false;
    tamisi_store_unlock(store);
    tamisi_store_unlock(store);
    return status;
}

tamis_status tamisi_store_commit(tamis_store *store)
{
    return transaction_end(store, true);
}

void tamisi_store_rollback(tamis_store *store)
{
    (void)transaction_end(store, false);
}

tamis_status tamisi_write_enter(tamis_store *store, bool *own)
{
    *own = false;
    if (store->in_transaction) {
        if (!sqlite3_get_autocommit(store->db)) return TAMIS_OK;
        return tamisi_fail(TAMIS_EIO, "store %s: the transaction was rolled back after a failed write", store->path);
    }
    TAMIS_TRY(transaction_open(store));
    *own = true;
    return TAMIS_OK;
}

tamis_status tamisi_write_leave(tamis_store *store, bool own, tamis_status status)
{
    if (!own) return status;
    if (status == TAMIS_OK) return transaction_close(store);
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* -------------------------------------------------------------------------------------------------------- writing */

static int bind_value(sqlite3_stmt *statement, int place, const struct tamisi_value *value, char kind)
{
    switch (kind) {
    case 'r':
        return sqlite3_bind_double(statement, place, value->real);
    case 't':
        return sqlite3_bind_text64(statement, place, value->data, value->bytes, SQLITE_STATIC, SQLITE_UTF8);
    case 'h':
    case 'b':
        return sqlite3_bind_blob64(statement, place, value->data, value->bytes, SQLITE_STATIC);
    default:
        return sqlite3_bind_int64(statement, place, value->integer);
    }
}

tamis_status tamisi_store_upgrade(tamis_store *store, int format)
{
    char sql[64];

    if (tamisi_store_has_format(store, format)) return TAMIS_OK;
    if (!tamisi_table_exists(store, TAMISI_TIMINGS))
        TAMIS_TRY(tamisi_store_execute(store, tamisi_table_info(TAMISI_TIMINGS)->create, "write"));
    if (format > TAMISI_STORE_NEW_FORMAT) {
        snprintf(sql, sizeof sql, "ALTER TABLE spec ADD COLUMN %s", tamisi_table_info(TAMISI_SPECS)->added);
        TAMIS_TRY(tamisi_store_execute(store, sql, "write"));
    }
    snprintf(sql, sizeof sql, "PRAGMA user_version=%d", format);
    return tamisi_store_execute(store, sql, "write");
}

/* How many columns the row's table has in the file, which gets the one that came later with the first row to need it. */
static tamis_status make_room(int *columns, tamis_store *store, const struct tamisi_row *row)
{
    const int all = tamisi_table_columns(row->table, TAMISI_STORE_FORMAT);
    const bool added = tamisi_table_info(row->table)->added != NULL;

    if (added && row->count == all) TAMIS_TRY(tamisi_store_upgrade(store, TAMISI_STORE_FORMAT));
    *columns = added && !tamisi_store_has_format(store, TAMISI_STORE_FORMAT) ? row->count : all;
    return TAMIS_OK;
}

static tamis_status insert(tamis_store *store, const struct tamisi_row *row)
{
    const char *kinds = tamisi_table_info(row->table)->kinds;
    struct tamisi_hash checksum = tamisi_row_checksum(row);
    sqlite3_stmt *statement = NULL;
    char sql[128] = "INSERT OR REPLACE INTO %s VALUES(?,?";
    size_t length = strlen(sql);
    tamis_status status = TAMIS_OK;
    int code, columns;

    TAMIS_TRY(make_room(&columns, store, row));
    for (int i = 0; i < columns; i++) length += (size_t)snprintf(sql + length, sizeof sql - length, ",?");
    snprintf(sql + length, sizeof sql - length, ")");

    code = tamisi_table_prepare(store, &statement, sql, row->table);
    if (code == SQLITE_OK) code = sqlite3_bind_int64(statement, 1, row->id);
    if (code == SQLITE_OK) code = sqlite3_bind_blob(statement, 2, checksum.bytes, sizeof checksum.bytes, SQLITE_STATIC);
    for (int i = 0; i < row->count && code == SQLITE_OK; i++)
        code = bind_value(statement, i + 3, &row->values[i], kinds[i]);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    if (code != SQLITE_DONE) status = tamisi_store_fail(store, "write");
    sqlite3_finalize(statement);
    return status;
}

tamis_status tamisi_table_delete(tamis_store *store, enum tamisi_table table, const int64_t *ids, size_t count,
                                 long long *removed)
{
    sqlite3_stmt *statement = NULL;
    tamis_status status = TAMIS_OK;
    int code = tamisi_table_prepare(store, &statement, "DELETE FROM %s WHERE id = ?1", table);

    if (code == SQLITE_OK) code = SQLITE_DONE;
    for (size_t i = 0; i < count && code == SQLITE_DONE; i++) {
        sqlite3_reset(statement);
        code = sqlite3_bind_int64(statement, 1, ids[i]);
        if (code == SQLITE_OK) code = sqlite3_step(statement);
        if (code == SQLITE_DONE && removed != NULL) *removed += sqlite3_changes(store->db);
    }
    if (code != SQLITE_DONE) status = tamisi_store_fail(store, "delete");
    sqlite3_finalize(statement);
    return status;
}

void tamisi_ids_add(struct tamisi_ids *list, int64_t id)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 64;
        int64_t *ids = realloc(list->ids, capacity * sizeof *ids);

        if (ids == NULL) {
            list->failed = true;
            return;
        }
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
}

void tamisi_ids_free(struct tamisi_ids *list)
{
    free(list->ids);
    *list = (struct tamisi_ids){NULL, 0, 0, false};
}

/* What a range holds, seen by one who wants to put a row there. */
struct search {
    const struct tamisi_row *wanted;
    int keys;
    bool found;
    int64_t free_id; /* above every intact row */
    struct tamisi_ids damaged;
};

static bool search_row(void *payload, const struct tamisi_row *row)
{
    struct search *search = payload;

    if (!row->intact) {
        tamisi_ids_add(&search->damaged, row->id);
        return false;
    }
    search->found = tamisi_row_agree(row, search->wanted, search->keys);
    search->free_id = row->id + 1;
    return search->found;
}

static tamis_status search_range(struct search *search, tamis_store *store, struct tamisi_range range)
{
    tamisi_ids_free(&search->damaged);
    search->free_id = range.first;
    return tamisi_table_scan(store, search->wanted->table, range, TAMISI_SCAN_DAMAGED, search_row, search);
}

static tamis_status replace(tamis_store *store, struct tamisi_row *row, struct tamisi_range range, struct search *search)
{
    TAMIS_TRY(search_range(search, store, range));
    if (search->found) return TAMIS_OK; /* a race that another process won */
    if (search->damaged.failed) return tamisi_fail(TAMIS_ENOMEM, "store %s: out of memory", store->path);
    TAMIS_TRY(tamisi_table_delete(store, row->table, search->damaged.ids, search->damaged.count, NULL));
    row->id = search->free_id <= range.last ? search->free_id : range.last;
    return insert(store, row);
}

tamis_status tamisi_table_put(tamis_store *store, struct tamisi_row *row, struct tamisi_range range, int keys)
{
    struct search search = {row, keys, false, 0, {NULL, 0, 0, false}};
    tamis_status status;
    bool own;

    if (!tamisi_store_writable(store)) return tamisi_fail(TAMIS_EUNSUPPORTED, "store %s is open read-only", store->path);
    tamisi_store_lock(store);
    /* First without a write lock: what is there already costs no one else a wait. */
    status = search_range(&search, store, range);
    if (status == TAMIS_OK && !search.found) {
        status = tamisi_write_enter(store, &own);
        if (status == TAMIS_OK) status = tamisi_write_leave(store, own, replace(store, row, range, &search));
    }
    tamisi_ids_free(&search.damaged);
    tamisi_store_unlock(store);
    return status;
}
