/*
 * store_scan.c: reading rows in SQLite, past whatever is damaged. Knows no table's meaning.
 *
 * A page or row that is damaged costs what is on it and one warning: reading goes on around it. Since a damaged id or page
 * also makes a lookup miss without a sign, a handle that misses for the first time walks the whole table once.
 * Layer: above store_format and store_convert.
 */
#include "store_internal.h"

#include <stdio.h>
#include <string.h>

bool tamisi_is_damage(int code)
{
    /* TOOBIG: a length beyond every limit. ERROR comes from a schema that was sound when the store was opened. */
    return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_TOOBIG ||
           (code & 0xff) == SQLITE_ERROR;
}

int tamisi_table_prepare(tamis_store *store, sqlite3_stmt **out, const char *format, enum tamisi_table table)
{
    char sql[160];

    snprintf(sql, sizeof sql, format, tamisi_table_info(table)->name);
    return sqlite3_prepare_v2(store->db, sql, -1, out, NULL);
}

/* In a transaction the answer may be rolled back, so it is not kept. */
bool tamisi_store_has_format(tamis_store *store, int wanted)
{
    sqlite3_stmt *statement = NULL;
    int format = store->format;

    if (store->format >= wanted) return true;
    if (sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        format = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    if (sqlite3_get_autocommit(store->db)) store->format = format;
    return format >= wanted;
}

bool tamisi_table_exists(tamis_store *store, enum tamisi_table table)
{
    return tamisi_store_has_format(store, tamisi_table_format(table));
}

/* ------------------------------------------------------------------------------------------------------- warnings */

static void warn_row(tamis_store *store, const struct tamisi_row *row)
{
    char label[80];

    for (int i = 0; i < store->warned_count; i++)
        if (store->warned[i].table == row->table && store->warned[i].id == row->id) return;
    if (store->warned_count < TAMISI_STORE_WARNED) {
        store->warned[store->warned_count].table = row->table;
        store->warned[store->warned_count].id = row->id;
        store->warned_count++;
    }
    tamisi_row_label(row, label, sizeof label);
    tamisi_log(&store->log, TAMIS_LOG_WARNING, "store %s: damaged %s \"%s\" counts as absent", store->path,
               tamisi_table_info(row->table)->name, label);
}

static void warn_table(tamis_store *store, enum tamisi_table table)
{
    if (store->broken & 1U << table) return;
    store->broken |= 1U << table;
    tamisi_log(&store->log, TAMIS_LOG_WARNING, "store %s: damaged pages; each %s on them counts as absent", store->path,
               tamisi_table_info(table)->name);
}

/* -------------------------------------------------------------------------------------------------------- reading */

/* False: of another type. */
static bool load_value(struct tamisi_value *value, sqlite3_stmt *statement, int column, char kind)
{
    int type = sqlite3_column_type(statement, column);

    *value = (struct tamisi_value){.data = ""};
    if (kind == 'n' || kind == 'i') {
        value->integer = sqlite3_column_int64(statement, column);
        return type == SQLITE_INTEGER;
    }
    if (kind == 'r') {
        value->real = sqlite3_column_double(statement, column);
        return type == SQLITE_FLOAT;
    }
    if (type != (kind == 't' ? SQLITE_TEXT : SQLITE_BLOB)) return false;
    /* column_text ends in a zero; an empty blob is NULL. */
    value->data = kind == 't' ? (const void *)sqlite3_column_text(statement, column)
                              : sqlite3_column_blob(statement, column);
    value->bytes = (size_t)sqlite3_column_bytes(statement, column);
    if (value->data == NULL) *value = (struct tamisi_value){.data = ""};
    return true;
}

static void load_row(struct tamisi_row *row, sqlite3_stmt *statement, enum tamisi_table table)
{
    const char *kinds = tamisi_table_info(table)->kinds;
    const int least = tamisi_table_columns(table, 1);
    const void *checksum = sqlite3_column_blob(statement, 1);
    struct tamisi_hash wanted, found;

    tamisi_row_init(row, table, sqlite3_column_int64(statement, 0));
    row->count = sqlite3_column_count(statement) - 2;
    /* The column that came later is NULL where a row does without. */
    if (row->count > least && sqlite3_column_type(statement, row->count + 1) == SQLITE_NULL) row->count = least;
    for (int i = 0; i < row->count; i++)
        if (!load_value(&row->values[i], statement, i + 2, kinds[i])) row->intact = false;

    if (checksum == NULL || sqlite3_column_type(statement, 1) != SQLITE_BLOB ||
        sqlite3_column_bytes(statement, 1) != sizeof wanted.bytes) {
        row->intact = false;
    } else {
        memcpy(wanted.bytes, checksum, sizeof wanted.bytes);
        found = tamisi_row_checksum(row);
        row->intact = row->intact && tamisi_hash_equal(&wanted, &found) && tamisi_row_well_formed(row);
    }
}

struct scan {
    tamis_store *store;
    enum tamisi_table table;
    struct tamisi_range range;
    unsigned flags;
    tamisi_row_visit visit; /* NULL: only look for damage */
    void *payload;
    struct tamisi_range shown; /* ids that are visited; the walk may be wider */
    bool any;                  /* an intact row was seen */
    int64_t last;              /* its id */
    bool stopped;
};

/* Visit one row. Ids that do not run one way mean a damaged tree, in which a walk need not end. */
static int scan_row(struct scan *scan, sqlite3_stmt *statement, const int64_t *previous, bool down)
{
    const int columns = sqlite3_column_count(statement) - 2; /* of any format: who else has the file open may upgrade it */
    struct tamisi_row row;

    if (columns < tamisi_table_columns(scan->table, 1) || columns > tamisi_table_columns(scan->table, TAMISI_STORE_FORMAT))
        return SQLITE_CORRUPT;
    load_row(&row, statement, scan->table);
    if (sqlite3_errcode(scan->store->db) == SQLITE_NOMEM) return SQLITE_NOMEM;
    if (previous != NULL && (down ? row.id >= *previous : row.id <= *previous)) return SQLITE_CORRUPT;
    if (row.intact) {
        scan->any = true;
        scan->last = row.id;
    } else if (!(scan->flags & TAMISI_SCAN_QUIET)) {
        warn_row(scan->store, &row);
    }
    if (scan->visit != NULL && row.id >= scan->shown.first && row.id <= scan->shown.last &&
        (row.intact || (scan->flags & TAMISI_SCAN_DAMAGED)))
        scan->stopped = scan->visit(scan->payload, &row);
    return SQLITE_ROW;
}

static int scan_one_way(struct scan *scan, bool down)
{
    sqlite3_stmt *statement = NULL;
    int64_t id, previous = 0;
    bool first = true;
    int code = tamisi_table_prepare(scan->store, &statement,
                                    down ? "SELECT * FROM %s WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC"
                                         : "SELECT * FROM %s WHERE id BETWEEN ?1 AND ?2 ORDER BY id",
                                    scan->table);

    if (code == SQLITE_OK) code = sqlite3_bind_int64(statement, 1, scan->range.first);
    if (code == SQLITE_OK) code = sqlite3_bind_int64(statement, 2, scan->range.last);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    while (code == SQLITE_ROW && !scan->stopped) {
        id = sqlite3_column_int64(statement, 0);
        code = scan_row(scan, statement, first ? NULL : &previous, down);
        previous = id;
        first = false;
        if (code == SQLITE_ROW && !scan->stopped) code = sqlite3_step(statement);
    }
    if (scan->stopped) code = SQLITE_DONE;
    sqlite3_finalize(statement);
    return code;
}

/* From one end, and if that stops at damage, from the other. */
static tamis_status walk(struct scan *scan)
{
    tamis_store *store = scan->store;
    bool down = (scan->flags & TAMISI_SCAN_NEWEST) != 0;
    int code;

    scan->any = false;
    code = scan_one_way(scan, down);
    if (!scan->stopped && tamisi_is_damage(code)) {
        warn_table(store, scan->table);
        if (scan->any && down) scan->range.last = scan->last - 1;
        if (scan->any && !down) scan->range.first = scan->last + 1;
        if (scan->range.first <= scan->range.last) code = scan_one_way(scan, !down);
    }
    if (scan->stopped || code == SQLITE_DONE || tamisi_is_damage(code)) return TAMIS_OK;
    if (code == SQLITE_NOMEM) return tamisi_fail(TAMIS_ENOMEM, "store %s: out of memory", store->path);
    return tamisi_store_fail(store, "read");
}

/* Walk the whole table, once in a handle's life, to report what is damaged. */
static tamis_status look_for_damage(tamis_store *store, enum tamisi_table table)
{
    struct scan scan = {.store = store, .table = table, .range = TAMISI_RANGE_ALL};

    if (store->walked & 1U << table) return TAMIS_OK;
    store->walked |= 1U << table;
    return walk(&scan);
}

tamis_status tamisi_table_scan(tamis_store *store, enum tamisi_table table, struct tamisi_range range, unsigned flags,
                               tamisi_row_visit visit, void *payload)
{
    struct scan scan = {store, table, range, flags, visit, payload, range, false, 0, false};
    bool whole = range.first == INT64_MIN && range.last == INT64_MAX;
    bool small = table == TAMISI_SPECS || table == TAMISI_VARIANTS, timings = table == TAMISI_TIMINGS;

    if (!tamisi_table_exists(store, table)) return TAMIS_OK;
    if (whole) return walk(&scan);
    /* Tables of large rows are looked through on a miss only: most handles find there what they want. */
    if (small) TAMIS_TRY(look_for_damage(store, table));
    if (!(store->broken & 1U << table)) {
        TAMIS_TRY(walk(&scan));
        /* A timing that is missed costs a choice, which is not worth a walk through all of them. */
        if (scan.stopped || small || (timings && !(store->broken & 1U << table))) return TAMIS_OK;
        TAMIS_TRY(look_for_damage(store, table));
        if (!(store->broken & 1U << table)) return TAMIS_OK;
    }
    /* In a tree with damaged pages a search by id may go astray; a walk does not. */
    scan.range = TAMISI_RANGE_ALL;
    return walk(&scan);
}
