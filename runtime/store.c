/*
 * store.c: opening a store, in each mode and each state a file can be in, and closing it.
 *
 * Opening reads the header and the schema, nothing more. A store that cannot be written is opened immutable: no lock, no
 * journal, nothing beside it. One whose end is missing is still read, as far as it goes. Layer: above store_table.
 */
#define _GNU_SOURCE

#include "options.h"
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool tamisi_store_writable(const tamis_store *store)
{
    return atomic_load(&store->writable);
}

const char *tamisi_store_path(const tamis_store *store)
{
    return store->path;
}

/* ---------------------------------------------------------------------------------------------- what is in the file */

static tamis_status read_integer(tamis_store *store, const char *sql, int *out)
{
    sqlite3_stmt *statement = NULL;
    tamis_status status = TAMIS_OK;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);

    if (code == SQLITE_OK) code = sqlite3_step(statement);
    if (code == SQLITE_ROW) *out = sqlite3_column_int(statement, 0);
    else status = tamisi_store_fail(store, "open");
    sqlite3_finalize(statement);
    return status;
}

static bool column_is(sqlite3_stmt *statement, int column, const char *wanted)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);

    return text != NULL && strcmp(text, wanted) == 0;
}

/* The schema must be ours to the letter: no view, trigger or index of someone else's runs when rows are read. */
static tamis_status check_schema(tamis_store *store)
{
    sqlite3_stmt *statement = NULL;
    int matching = 0, rows = 0, tables = 0;
    int code = sqlite3_prepare_v2(store->db, "SELECT type, name, tbl_name, sql FROM sqlite_master", -1, &statement, NULL);

    while (tables < TAMISI_TABLES && tamisi_table_format((enum tamisi_table)tables) <= store->format) tables++;
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    for (; code == SQLITE_ROW && rows < tables; rows++) {
        const struct tamisi_table_info *info = tamisi_table_info((enum tamisi_table)rows);

        matching += column_is(statement, 0, "table") && column_is(statement, 1, info->name) &&
                    column_is(statement, 2, info->name) &&
                    tamisi_table_is((enum tamisi_table)rows, store->format, (const char *)sqlite3_column_text(statement, 3));
        code = sqlite3_step(statement);
    }
    sqlite3_finalize(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE) return tamisi_store_fail(store, "open");
    if (code == SQLITE_ROW || matching != tables)
        return tamisi_fail(TAMIS_ECORRUPT, "store %s: its tables are not those of format %d", store->path, store->format);
    return TAMIS_OK;
}

static tamis_status check_content(tamis_store *store)
{
    int application = 0, format = 0;

    TAMIS_TRY(read_integer(store, "PRAGMA application_id", &application));
    TAMIS_TRY(read_integer(store, "PRAGMA user_version", &format));
    if (application != TAMISI_STORE_APPLICATION)
        return tamisi_fail(TAMIS_ECORRUPT, "%s is not a tamis store", store->path);
    if (format > TAMISI_STORE_FORMAT)
        return tamisi_fail(TAMIS_EVERSION, "store %s has format %d, but this tamis knows formats up to %d", store->path,
                           format, TAMISI_STORE_FORMAT);
    if (format < 1) return tamisi_fail(TAMIS_ECORRUPT, "store %s has format %d, which never was", store->path, format);
    store->format = format;
    return check_schema(store);
}

static tamis_status write_schema(tamis_store *store)
{
    char sql[96];

    snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d", TAMISI_STORE_APPLICATION,
             TAMISI_STORE_NEW_FORMAT);
    TAMIS_TRY(tamisi_store_execute(store, sql, "create"));
    for (int i = 0; i < TAMISI_TABLES; i++)
        TAMIS_TRY(tamisi_store_execute(store, tamisi_table_info((enum tamisi_table)i)->create, "create"));
    store->format = TAMISI_STORE_NEW_FORMAT;
    return TAMIS_OK;
}

/*
 * SQLite would make files beside a store whose header asks for a write-ahead log, before it has said that this is no store
 * of ours. So look first, through SQLite's own descriptor; *bytes is the file's size.
 */
static tamis_status look_at_header(tamis_store *store, sqlite3_int64 *bytes)
{
    sqlite3_file *file = NULL;
    unsigned char header[20];

    if (sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK || file == NULL ||
        file->pMethods == NULL || file->pMethods->xFileSize(file, bytes) != SQLITE_OK)
        return tamisi_fail(TAMIS_EIO, "store %s: cannot read its size", store->path);
    if (*bytes < (sqlite3_int64)sizeof header) return TAMIS_OK;
    if (file->pMethods->xRead(file, header, sizeof header, 0) != SQLITE_OK)
        return tamisi_fail(TAMIS_EIO, "store %s: cannot read its header", store->path);
    if (memcmp(header, "SQLite format 3", 16) == 0 && (header[18] > 1 || header[19] > 1))
        return tamisi_fail(TAMIS_ECORRUPT, "%s is not a tamis store: it has a write-ahead log", store->path);
    return TAMIS_OK;
}

/* An empty file is a store that someone is about to make: perhaps we, perhaps a process that holds the lock. */
static tamis_status create_content(tamis_store *store)
{
    sqlite3_int64 bytes = 0;
    tamis_status status;

    TAMIS_TRY(tamisi_store_execute(store, "BEGIN IMMEDIATE", "create"));
    status = look_at_header(store, &bytes);
    if (status == TAMIS_OK) status = bytes == 0 ? write_schema(store) : check_content(store);
    if (status == TAMIS_OK) status = tamisi_store_execute(store, "COMMIT", "create");
    if (status != TAMIS_OK) sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* -------------------------------------------------------------------------------------------------- opening a file */

enum opening {
    OPEN_CREATE,    /* read and write, made if absent */
    OPEN_WRITE,     /* read and write */
    OPEN_READ,      /* with locks */
    OPEN_IMMUTABLE, /* without */
};

static void close_database(tamis_store *store)
{
    sqlite3_close(store->db);
    store->db = NULL;
}

static void configure(tamis_store *store, bool cut_short)
{
    sqlite3 *db = store->db;

    sqlite3_extended_result_codes(db, 1);
    sqlite3_busy_timeout(db, TAMISI_STORE_BUSY_MS);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, TAMISI_STORE_MAX_VALUE);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    /* With a writable schema SQLite reads a file that is shorter than its header says. The file is never written so. */
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, cut_short ? 0 : 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_WRITABLE_SCHEMA, cut_short ? 1 : 0, NULL);
    /* Neither reads the file. Temporary files are for systems that have a place for them. */
    sqlite3_exec(db, "PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY", NULL, NULL, NULL);
}

static tamis_status open_database(tamis_store *store, enum opening how)
{
    static const char *const queries[] = {"?mode=rwc", "?mode=rw", "?mode=ro", "?mode=ro&immutable=1"};
    struct tamisi_buf uri = TAMISI_BUF_INIT;
    int flags = SQLITE_OPEN_URI | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_PRIVATECACHE, code;

    tamisi_path_uri(&uri, store->path);
    tamisi_buf_puts(&uri, queries[how]);
    if (uri.failed) {
        tamisi_buf_free(&uri);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    }
    flags |= how <= OPEN_WRITE ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    if (how == OPEN_CREATE) flags |= SQLITE_OPEN_CREATE;
    code = sqlite3_open_v2(uri.data, &store->db, flags, NULL);
    tamisi_buf_free(&uri);
    if (code == SQLITE_OK) return TAMIS_OK;
    return store->db != NULL ? tamisi_store_fail(store, "open") : tamisi_fail(TAMIS_ENOMEM, "out of memory");
}

static tamis_status open_content(tamis_store *store, enum opening how, bool cut_short)
{
    sqlite3_int64 bytes = 0;
    tamis_status status;

    TAMIS_TRY(open_database(store, how));
    configure(store, cut_short);
    TAMIS_TRY(look_at_header(store, &bytes));
    /* SQLite opens for reading, and says nothing, where it may not write. */
    if (how <= OPEN_WRITE && sqlite3_db_readonly(store->db, "main") != 0)
        return tamisi_fail(TAMIS_EIO, "store %s: cannot be written", store->path);
    if (bytes == 0 && how == OPEN_CREATE) return create_content(store);
    if (bytes == 0) return tamisi_fail(TAMIS_ECORRUPT, "%s is not a tamis store: it is empty", store->path);
    TAMIS_TRY(tamisi_store_execute(store, "BEGIN", "open"));
    status = check_content(store);
    sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
    return status;
}

/* ----------------------------------------------------------------------------------------------------------- modes */

static tamis_status open_for_writing(tamis_store *store, tamis_store_mode mode, int unwritable)
{
    tamis_status status;

    if (unwritable != 0)
        return tamisi_fail(TAMIS_EIO, "store %s: cannot be written: %s", store->path, strerror(unwritable));
    status = open_content(store, mode == TAMIS_STORE_CREATE ? OPEN_CREATE : OPEN_WRITE, false);
    if (status == TAMIS_OK) atomic_store(&store->writable, true);
    else close_database(store);
    return status;
}

static tamis_status open_for_reading(tamis_store *store, int unwritable)
{
    enum opening how = unwritable != 0 ? OPEN_IMMUTABLE : OPEN_READ;
    tamis_status status = open_content(store, how, false);

    if (status == TAMIS_ECORRUPT) {
        close_database(store);
        status = open_content(store, how, true);
        store->cut_short = status == TAMIS_OK;
    }
    if (status != TAMIS_OK) close_database(store);
    if (store->cut_short)
        tamisi_log(&store->log, TAMIS_LOG_WARNING, "store %s: part of the file is missing; the rest is read", store->path);
    return status;
}

static tamis_status check_file(const tamis_store *store, tamis_store_mode mode)
{
    struct stat info;

    if (stat(store->path, &info) != 0) {
        if (errno == ENOENT && mode == TAMIS_STORE_CREATE) return TAMIS_OK;
        if (errno == ENOENT || (errno == ENOTDIR && mode != TAMIS_STORE_CREATE))
            return tamisi_fail(TAMIS_ENOTFOUND, "no store %s", store->path);
        return tamisi_fail(TAMIS_EIO, "store %s: cannot be read: %s", store->path, strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) return tamisi_fail(TAMIS_EIO, "store %s: is a folder", store->path);
    if (!S_ISREG(info.st_mode)) return tamisi_fail(TAMIS_EIO, "store %s: is not a regular file", store->path);
    if (faccessat(AT_FDCWD, store->path, R_OK, AT_EACCESS) != 0)
        return tamisi_fail(TAMIS_EIO, "store %s: cannot be read: %s", store->path, strerror(errno));
    return TAMIS_OK;
}

static tamis_status open_in_mode(tamis_store *store, tamis_store_mode mode)
{
    tamis_status status;
    char why[256];
    int unwritable;

    TAMIS_TRY(check_file(store, mode));
    unwritable = tamisi_path_unwritable(store->path);
    if (mode == TAMIS_STORE_READ) return open_for_reading(store, unwritable);
    status = open_for_writing(store, mode, unwritable);
    if (mode == TAMIS_STORE_CREATE || (status != TAMIS_EIO && status != TAMIS_ECORRUPT)) return status;

    snprintf(why, sizeof why, "%s", tamis_last_error());
    TAMIS_TRY(open_for_reading(store, unwritable));
    tamisi_error_clear();
    tamisi_log(&store->log, TAMIS_LOG_WARNING, "%s; opened read-only", why);
    return TAMIS_OK;
}

static tamis_status store_create(tamis_store **out, const tamis_store_options *options)
{
    tamis_store *store = calloc(1, sizeof *store);
    pthread_mutexattr_t attributes;

    if (store == NULL) return tamisi_fail(TAMIS_ENOMEM, "out of memory");
    store->log = (struct tamisi_log){options->log, options->log_payload};
    atomic_init(&store->writable, false);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&store->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    *out = store;
    return TAMIS_OK;
}

static tamis_status set_path(tamis_store *store, const char *path, tamis_store_mode mode)
{
    struct tamisi_buf name = TAMISI_BUF_INIT;
    tamis_status status = TAMIS_OK;

    if (path != NULL) tamisi_buf_puts(&name, path);
    else status = tamisi_path_cache(&name, mode == TAMIS_STORE_CREATE);
    if (status == TAMIS_OK) {
        store->path = tamisi_buf_take(&name);
        if (store->path == NULL) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    }
    tamisi_buf_free(&name);
    return status;
}

static tamis_status check_options(const tamis_store_options *options, const char *path)
{
    if (path != NULL && *path == '\0') return tamisi_fail(TAMIS_EINVAL, "path: is empty");
    TAMIS_TRY(tamisi_options_check(options, sizeof *options, sizeof *options, "options", "TAMIS_STORE_OPTIONS_INIT"));
    if ((int)options->mode < TAMIS_STORE_READ || (int)options->mode > TAMIS_STORE_CREATE)
        return tamisi_fail(TAMIS_EINVAL, "options: mode %d is none", (int)options->mode);
    return TAMIS_OK;
}

tamis_status tamis_store_open(tamis_store **out, const char *path, const tamis_store_options *options)
{
    tamis_store_options defaults = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = NULL;
    tamis_status status;

    tamisi_error_clear();
    if (out == NULL) return tamisi_fail(TAMIS_EINVAL, "out: is NULL");
    *out = NULL;
    if (options == NULL) options = &defaults;
    TAMIS_TRY(check_options(options, path));
    TAMIS_TRY(store_create(&store, options));
    status = set_path(store, path, options->mode);
    if (status == TAMIS_OK) status = open_in_mode(store, options->mode);
    if (status != TAMIS_OK) {
        tamis_store_free(store);
        return status;
    }
    *out = store;
    return TAMIS_OK;
}

void tamis_store_free(tamis_store *store)
{
    if (store == NULL) return;
    tamisi_store_rollback(store);
    tamisi_timings_forget(store);
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    free(store->path);
    free(store);
}
