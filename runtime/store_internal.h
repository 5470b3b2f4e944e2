/*
 * store_internal.h: what the store's own files share. Nothing outside runtime/store*.c includes it, but its tests.
 *
 * From the bottom: store_format.c (what a row is: columns, ids, checksum; no SQL), store_convert.c (structs to rows and back),
 * store_path.c (file names), store_scan.c (reading rows), store_table.c (writing them, transactions), store.c (opening and
 * modes), store_rows.c, store_layers.c, store_pattern.c, store_kernels.c, store_timings.c, store_admin.c and store_merge.c
 * (what store.h promises). There are no indices: a row's id is made from its key, so that a lookup walks one tree and a
 * damaged page costs the rows on it and no others.
 */
#ifndef TAMISI_STORE_INTERNAL_H
#define TAMISI_STORE_INTERNAL_H

#include "store.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum tamisi_table { TAMISI_SPECS, TAMISI_SOURCES, TAMISI_VARIANTS, TAMISI_CUBINS, TAMISI_TIMINGS, TAMISI_TABLES };

#define TAMISI_STORE_COLUMNS 30                /* the most a table has, id and checksum not counted */
#define TAMISI_STORE_MAX_VALUE (64 * 1024 * 1024) /* bytes of one value; more is a lie or a mistake */
#define TAMISI_STORE_SLOTS 256                 /* ids that a cubin of several compilers may have */
#define TAMISI_STORE_BUSY_MS 30000             /* how long to wait for another process's write */
#define TAMISI_STORE_WARNED 32                 /* damaged rows that a handle remembers to have reported */
#define TAMISI_STORE_KEPT 12                   /* sets of timings that a handle keeps: a plan asks for up to nine */

/* Timings as a plan asked for them, kept for the next one: a host that meets a new length makes a new plan. */
struct tamisi_kept_timings {
    char family[16], arch[16];
    int head_dim, cc;
    struct tamisi_timing *timings; /* owned; NULL: none are kept here */
    size_t count;
};

struct tamis_store {
    sqlite3 *db;
    char *path; /* as in messages */
    struct tamisi_log log;
    pthread_mutex_t lock; /* recursive: held by every call, and from begin to commit */
    atomic_bool writable;
    int format;      /* of the file when it was last looked at; TAMISI_TIMINGS came with 2, a spec's pattern with 3 */
    bool in_transaction;
    bool sound;      /* the structure was checked, once, before the first write */
    bool cut_short;  /* opened although pages are missing at its end */
    unsigned broken; /* a bit a table whose pages were reported damaged */
    unsigned walked; /* a bit a table that was looked through for damage */
    struct tamisi_kept_timings kept[TAMISI_STORE_KEPT];
    unsigned kept_next;    /* which is replaced next */
    int64_t kept_version;  /* of the file, when they were read */
    int warned_count;
    struct {
        enum tamisi_table table;
        int64_t id;
    } warned[TAMISI_STORE_WARNED];
};

/* ------------------------------------------------------------------------------------------------- store_format.c */

struct tamisi_value {
    int64_t integer;
    double real;
    const char *data; /* texts and blobs; a text also ends in a zero. Never NULL */
    size_t bytes;
};

/* A row of any table. Texts and blobs are borrowed: from the caller when written, from SQLite while visited when read. */
struct tamisi_row {
    enum tamisi_table table;
    int64_t id;
    bool intact; /* checksum, types and form hold; else values may be empty */
    int count;   /* values set */
    struct tamisi_value values[TAMISI_STORE_COLUMNS];
};

struct tamisi_range {
    int64_t first, last; /* ids, both included */
};
#define TAMISI_RANGE_ALL ((struct tamisi_range){INT64_MIN, INT64_MAX})

/* Column kinds. 'n' is an integer that fits an int, 'i' any integer, 'r' a real, 't' text, 'h' a hash, 'b' bytes. */
struct tamisi_table_info {
    const char *name;
    const char *kinds;
    const char *create;
    const char *added; /* the last column, where `create` lacks it and files of TAMISI_STORE_FORMAT have it; else NULL */
};
const struct tamisi_table_info *tamisi_table_info(enum tamisi_table table);
int tamisi_table_columns(enum tamisi_table table, int format); /* id and checksum not counted */
bool tamisi_table_is(enum tamisi_table table, int format, const char *sql); /* does that make it, as files of the format do? */

void tamisi_row_init(struct tamisi_row *row, enum tamisi_table table, int64_t id);
struct tamisi_hash tamisi_row_checksum(const struct tamisi_row *row);
/* In that many first values; where these are all of one row, the other has no more. */
bool tamisi_row_agree(const struct tamisi_row *a, const struct tamisi_row *b, int values);
void tamisi_row_label(const struct tamisi_row *row, char *out, size_t size); /* printable, of damaged rows too */

int tamisi_table_format(enum tamisi_table table); /* the first format that has it */

int64_t tamisi_spec_id(const char *name);
int64_t tamisi_source_id(const struct tamisi_hash *hash);
struct tamisi_range tamisi_variant_range(const char *family, const char *arch);
int64_t tamisi_variant_id(const struct tamisi_variant *variant); /* in its range */
struct tamisi_range tamisi_cubin_range(const struct tamisi_hash *source, const char *arch, const char *options);
/* Where the timings lie that one plan asks for. */
struct tamisi_range tamisi_timing_range(const char *family, const char *arch, int head_dim, int cc);
int64_t tamisi_timing_id(const struct tamisi_timing *timing); /* in its range */
/* Two columns mean nothing for the families of block patterns, and hold what their buckets have instead. */
int64_t tamisi_timing_scope(const struct tamisi_timing *timing);
int64_t tamisi_timing_window(const struct tamisi_timing *timing);

/* Places of values that other files look at. */
enum {
    TAMISI_SPEC_NAME = 0,
    TAMISI_SPEC_LAYERS = 14,
    TAMISI_SPEC_SPARSE = 15,
    TAMISI_SPEC_TEXT = 16,
    TAMISI_SPEC_PATTERN = 17 /* in rows of specs that name one, and no others: these are what they were before */
};
enum { TAMISI_SOURCE_HASH = 0, TAMISI_SOURCE_NAME = 1, TAMISI_SOURCE_TEXT = 2 };
enum { TAMISI_VARIANT_SPEC = 0, TAMISI_VARIANT_NAME = 2, TAMISI_VARIANT_ARCH = 3, TAMISI_VARIANT_SOURCE = 9 };
enum {
    TAMISI_CUBIN_SOURCE = 0,
    TAMISI_CUBIN_ARCH = 1,
    TAMISI_CUBIN_OPTIONS = 2,
    TAMISI_CUBIN_NVRTC = 3,
    TAMISI_CUBIN_RESOURCES = 4,
    TAMISI_CUBIN_DATA = 5,
    TAMISI_CUBIN_KEYS = 4 /* values that make its key */
};

enum { TAMISI_TIMING_SOURCE = 0, TAMISI_TIMING_VARIANT = 2, TAMISI_TIMING_ARCH = 3 };

/* ------------------------------------------------------------------------------------------------ store_convert.c */

/* Structs to rows, which borrow from them and from `text`, and back. Reading copies; false: malformed or no memory. */
void tamisi_row_from_spec(struct tamisi_row *row, const struct tamisi_spec_row *spec);
void tamisi_row_from_source(struct tamisi_row *row, const struct tamisi_hash *hash, const char *name, const char *text);
void tamisi_row_from_variant(struct tamisi_row *row, const struct tamisi_variant *variant, struct tamisi_buf *text);
void tamisi_row_from_cubin(struct tamisi_row *row, const struct tamisi_hash *source, const char *arch,
                           const char *options, const char *nvrtc, const struct tamisi_compiled *compiled,
                           struct tamisi_buf *text);
void tamisi_row_from_timing(struct tamisi_row *row, const struct tamisi_timing *timing);
void tamisi_row_to_problem(tamis_problem *out, const struct tamisi_row *row);
bool tamisi_row_to_variant(struct tamisi_variant *out, const struct tamisi_row *row);
bool tamisi_row_to_cubin(struct tamisi_cubin *out, const struct tamisi_row *row); /* all but data, which stays NULL */
bool tamisi_row_to_timing(struct tamisi_timing *out, const struct tamisi_row *row);
bool tamisi_row_well_formed(const struct tamisi_row *row); /* given right types: lengths, and text forms that parse */

/* ---------------------------------------------------------------------------------- store_scan.c, store_table.c */

void tamisi_store_lock(tamis_store *store);
void tamisi_store_unlock(tamis_store *store);

/* "...%s..." and a table's name to a statement. Returns SQLite's code. */
int tamisi_table_prepare(tamis_store *store, sqlite3_stmt **out, const char *format, enum tamisi_table table);
bool tamisi_is_damage(int code); /* of SQLite: the file's content, not its medium, is to blame */

/* Set the message for SQLite's last error on this handle: "store PATH: cannot <what>: why". */
tamis_status tamisi_store_fail(tamis_store *store, const char *what);
tamis_status tamisi_store_execute(tamis_store *store, const char *sql, const char *what);

/* A file of an older format lacks tables that came later: it has none of their rows until the first one is put. */
bool tamisi_store_has_format(tamis_store *store, int format); /* or a newer one */
bool tamisi_table_exists(tamis_store *store, enum tamisi_table table);
tamis_status tamisi_store_upgrade(tamis_store *store, int format); /* in a transaction; to that one at least */

void tamisi_timings_forget(tamis_store *store); /* store_timings.c: before each write */

enum tamisi_scan_flags {
    TAMISI_SCAN_NEWEST = 1, /* highest id first */
    TAMISI_SCAN_QUIET = 2,  /* no warning for damaged rows: the visitor reports them */
    TAMISI_SCAN_DAMAGED = 4 /* visit damaged rows too */
};
/* Visit a table's rows by id; the visitor returns true to stop. Damage is a warning, not a failure. */
typedef bool (*tamisi_row_visit)(void *payload, const struct tamisi_row *row);
tamis_status tamisi_table_scan(tamis_store *store, enum tamisi_table table, struct tamisi_range range, unsigned flags,
                               tamisi_row_visit visit, void *payload);

/*
 * Write `row` unless an intact row in `range` agrees with it in its first `keys` values. Damaged rows in the range go.
 * The id is the range's only one, or the one after the highest taken.
 */
tamis_status tamisi_table_put(tamis_store *store, struct tamisi_row *row, struct tamisi_range range, int keys);

/* In a transaction: delete rows by id, and count those that there were. */
tamis_status tamisi_table_delete(tamis_store *store, enum tamisi_table table, const int64_t *ids, size_t count,
                                 long long *removed);

/* A write of several statements: joins the transaction of tamisi_store_begin, or is one of its own. Lock held. */
tamis_status tamisi_write_enter(tamis_store *store, bool *own);
tamis_status tamisi_write_leave(tamis_store *store, bool own, tamis_status status);

/* A growing list of ids. */
struct tamisi_ids {
    int64_t *ids;
    size_t count, capacity;
    bool failed;
};
void tamisi_ids_add(struct tamisi_ids *list, int64_t id);
void tamisi_ids_free(struct tamisi_ids *list);

/* --------------------------------------------------------------------------------------------------- store_path.c */

/* The user's cache file name; makes its folder if `make_folder`. */
tamis_status tamisi_path_cache(struct tamisi_buf *out, bool make_folder);
/* "file:" URI of a path, with its special characters escaped. */
void tamisi_path_uri(struct tamisi_buf *out, const char *path);
/* 0 if the file, or where it is absent its folder, can be written along with a journal beside it; else an errno value. */
int tamisi_path_unwritable(const char *path);

#endif
