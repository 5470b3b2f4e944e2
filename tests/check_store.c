/*
 * check_store.c: opening a store, in every mode and on files that are none; and what the suite's files share.
 *
 * What is put into stores is in check_store_content.c; damage, full disks and cut-off writes in check_store_damage.c.
 */
#define _GNU_SOURCE

#include "store_case.h"

#include <dirent.h>
#include <sqlite3.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *store_suite(void);

char store_file[PATH_MAX];
int store_warnings;
char store_warning[512];

static void count_warning(void *payload, tamis_log_level level, const char *message)
{
    (void)payload;
    if (level != TAMIS_LOG_WARNING) return;
    store_warnings++;
    snprintf(store_warning, sizeof store_warning, "%s", message);
}

void store_set_up(void)
{
    folder_make("store");
    snprintf(store_file, sizeof store_file, "%s", folder_file("a.tamis"));
    store_warnings = 0;
    store_warning[0] = '\0';
}

void store_list_folder(struct tamisi_buf *out)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);

    ck_assert_int_ge(count, 0);
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.') tamisi_buf_printf(out, "%s\n", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

void store_tear_down(void)
{
    chmod(folder, 0700);
    folder_remove();
}

tamis_status store_open(tamis_store **out, tamis_store_mode mode)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;

    options.mode = mode;
    options.log = count_warning;
    return tamis_store_open(out, store_file, &options);
}

tamis_store *store_must_open(tamis_store_mode mode)
{
    tamis_store *store = NULL;
    tamis_status status = store_open(&store, mode);

    ck_assert_msg(status == TAMIS_OK, "open: %s", tamis_last_error());
    return store;
}

void store_must(tamis_status status)
{
    ck_assert_msg(status == TAMIS_OK, "%d: %s", (int)status, tamis_last_error());
}

void store_expect(tamis_status status, tamis_status wanted, const char *text)
{
    ck_assert_msg(status == wanted, "status %d, not %d: %s", (int)status, (int)wanted, tamis_last_error());
    ck_assert_msg(strstr(tamis_last_error(), text) != NULL, "\"%s\" lacks \"%s\"", tamis_last_error(), text);
}

void store_execute(const char *sql)
{
    sqlite3 *db = NULL;

    ck_assert_int_eq(sqlite3_open(store_file, &db), SQLITE_OK);
    ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

static void write_file(const char *bytes, size_t count)
{
    FILE *out = fopen(store_file, "wb");

    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(bytes, 1, count, out), count);
    fclose(out);
}

void store_make(int count)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    store_must(tamisi_store_begin(store));
    store_must(fill_put_spec(store, 0));
    store_must(fill_put_spec(store, 1));
    for (int i = 0; i < count; i++) store_must(fill_put(store, i));
    store_must(tamisi_store_commit(store));
    tamis_store_free(store);
}

/* ----------------------------------------------------------------------------------------------------------- opening */

START_TEST(test_open_arguments)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = (tamis_store *)&options;

    store_expect(tamis_store_open(NULL, store_file, &options), TAMIS_EINVAL, "out: is NULL");
    store_expect(tamis_store_open(&store, "", &options), TAMIS_EINVAL, "path: is empty");
    ck_assert_ptr_null(store);
    options.struct_size = sizeof options - 1;
    store_expect(tamis_store_open(&store, store_file, &options), TAMIS_EINVAL, "struct_size");
    options.struct_size = sizeof options;
    options.mode = (tamis_store_mode)3;
    store_expect(tamis_store_open(&store, store_file, &options), TAMIS_EINVAL, "mode 3");
    store_expect(store_open(&store, TAMIS_STORE_READ), TAMIS_ENOTFOUND, "no store");
    store_expect(store_open(&store, TAMIS_STORE_WRITE), TAMIS_ENOTFOUND, store_file);
    tamis_store_free(NULL);
}
END_TEST

/* Files that are no store, in every mode; none of them is changed. */
static const struct {
    const char *sql; /* makes the file, if not NULL */
    const char *bytes;
    tamis_status status;
    const char *text;
} not_stores[] = {
    {NULL, "", TAMIS_ECORRUPT, "is not a tamis store: it is empty"},
    {NULL, "ab", TAMIS_ECORRUPT, "is not a tamis store"},
    {NULL, "name: llama\nhead_dim: 128\nand so on, for longer than a header of one hundred bytes, as this line sees to it",
     TAMIS_ECORRUPT, "is not a tamis store"},
    {"CREATE TABLE t(a)", NULL, TAMIS_ECORRUPT, "is not a tamis store"},
    {"PRAGMA journal_mode=WAL; CREATE TABLE t(a)", NULL, TAMIS_ECORRUPT, "it has a write-ahead log"},
    {"PRAGMA application_id=1413565779; PRAGMA user_version=4; CREATE TABLE t(a)", NULL, TAMIS_EVERSION,
     "has format 4, but this tamis knows formats up to 3"},
    {"PRAGMA application_id=1413565779; CREATE TABLE t(a)", NULL, TAMIS_ECORRUPT, "has format 0"},
    {"PRAGMA application_id=1413565779; PRAGMA user_version=1; CREATE TABLE t(a)", NULL, TAMIS_ECORRUPT,
     "its tables are not those of format 1"},
    {"PRAGMA application_id=1413565779; PRAGMA user_version=2; CREATE TABLE t(a)", NULL, TAMIS_ECORRUPT,
     "its tables are not those of format 2"},
};

START_TEST(test_not_a_store)
{
    tamis_store *store;
    struct stat before, after;

    for (int mode = TAMIS_STORE_READ; mode <= TAMIS_STORE_CREATE; mode++) {
        struct tamisi_buf names = TAMISI_BUF_INIT;

        if (not_stores[_i].sql != NULL) store_execute(not_stores[_i].sql);
        else write_file(not_stores[_i].bytes, strlen(not_stores[_i].bytes));
        ck_assert_int_eq(stat(store_file, &before), 0);
        if (before.st_size == 0 && mode == TAMIS_STORE_CREATE) {
            tamis_store_free(store_must_open(TAMIS_STORE_CREATE)); /* an empty file is a place for a store */
            break;
        }
        store_expect(store_open(&store, (tamis_store_mode)mode), not_stores[_i].status, not_stores[_i].text);
        ck_assert_ptr_null(store);
        ck_assert_int_eq(stat(store_file, &after), 0);
        ck_assert(before.st_size == after.st_size && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
        store_list_folder(&names);
        ck_assert_str_eq(names.data, "a.tamis\n");
        tamisi_buf_free(&names);
        unlink(store_file);
    }
}
END_TEST

START_TEST(test_odd_files)
{
    tamis_store *store;

    ck_assert_int_eq(mkdir(store_file, 0700), 0);
    store_expect(store_open(&store, TAMIS_STORE_CREATE), TAMIS_EIO, "is a folder");
    rmdir(store_file);
    ck_assert_int_eq(mkfifo(store_file, 0600), 0);
    store_expect(store_open(&store, TAMIS_STORE_READ), TAMIS_EIO, "not a regular file");
    unlink(store_file);
    snprintf(store_file, sizeof store_file, "%s/none/a.tamis", folder);
    store_expect(store_open(&store, TAMIS_STORE_CREATE), TAMIS_EIO, "No such file");
    /* Names that mean something in a URI, or to SQLite. */
    snprintf(store_file, sizeof store_file, "%s/a?mode=memory#%%41 b", folder);
    tamis_store_free(store_must_open(TAMIS_STORE_CREATE));
    ck_assert_int_eq(access(store_file, F_OK), 0);
    ck_assert_int_eq(chdir(folder), 0);
    snprintf(store_file, sizeof store_file, ":memory:");
    tamis_store_free(store_must_open(TAMIS_STORE_CREATE));
    ck_assert_int_eq(access(":memory:", F_OK), 0);
}
END_TEST

/* A view, a trigger or another default: nothing that is not ours is run. */
START_TEST(test_foreign_schema)
{
    static const char *const changes[] = {
        "CREATE TRIGGER t AFTER INSERT ON source BEGIN DELETE FROM cubin; END",
        "CREATE INDEX i ON cubin(source)",
        "DROP TABLE spec; CREATE VIEW spec AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i FROM n",
        "ALTER TABLE cubin ADD COLUMN x",
        "DROP TABLE variant",
        "DROP TABLE timing",
        "PRAGMA user_version=1",
    };
    const int last = (int)(sizeof changes / sizeof *changes) - 1;
    tamis_store *store;

    for (int i = 0; i <= last; i++) {
        unlink(store_file);
        store_make(1);
        store_execute(changes[i]);
        store_expect(store_open(&store, TAMIS_STORE_WRITE), TAMIS_ECORRUPT,
                     i < last ? "its tables are not those of format 2" : "its tables are not those of format 1");
    }
}
END_TEST

/* Become someone who owns nothing here, where the test runs as root; stay able to be traced, for the leak checker. */
static void drop_privileges(void)
{
    if (geteuid() != 0) return;
    ck_assert_int_eq(seteuid(65534), 0);
    prctl(PR_SET_DUMPABLE, 1);
}

START_TEST(test_read_only)
{
    static const struct {
        mode_t folder, file;
    } modes[] = {{0555, 0444}, {0555, 0666}, {0755, 0444}};
    struct tamisi_buf names = TAMISI_BUF_INIT;
    tamis_store *store;
    sqlite3 *writer = NULL;
    int wrong = 0;

    store_make(4);
    /* What cannot be written is read without locks, so this one keeps nobody waiting. */
    ck_assert_int_eq(sqlite3_open(store_file, &writer), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(writer, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    chmod(store_file, modes[_i].file);
    chmod(folder, modes[_i].folder);
    drop_privileges();

    store = store_must_open(TAMIS_STORE_READ);
    ck_assert_int_eq(fill_count_absent(store, 4, &wrong) + wrong, 0);
    store_expect(fill_put(store, 4), TAMIS_EUNSUPPORTED, "read-only");
    store_expect(tamisi_store_begin(store), TAMIS_EUNSUPPORTED, "read-only");
    ck_assert_int_eq(store_warnings, 0);
    tamis_store_free(store);

    store = store_must_open(TAMIS_STORE_WRITE);
    ck_assert_int_eq(store_warnings, 1);
    ck_assert_ptr_nonnull(strstr(store_warning, "opened read-only"));
    ck_assert_str_eq(tamis_last_error(), "");
    ck_assert(!tamisi_store_writable(store));
    ck_assert_int_eq(fill_count_absent(store, 4, &wrong) + wrong, 0);
    store_list_folder(&names);
    ck_assert_str_eq(names.data, "a.tamis\n");
    tamisi_buf_free(&names);
    tamis_store_free(store);

    store_expect(store_open(&store, TAMIS_STORE_CREATE), TAMIS_EIO, "cannot be written: Permission denied");
    sqlite3_close(writer);
    if (geteuid() == 65534) ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

START_TEST(test_unreadable)
{
    tamis_store *store;

    store_make(1);
    chmod(store_file, 0);
    chmod(folder, 0755);
    drop_privileges();
    store_expect(store_open(&store, TAMIS_STORE_WRITE), TAMIS_EIO, "Permission denied");
    if (geteuid() == 65534) ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

Suite *store_suite(void)
{
    Suite *suite = suite_create("store");
    TCase *opening = tcase_create("opening");

    tcase_add_checked_fixture(opening, store_set_up, store_tear_down);
    tcase_set_timeout(opening, 60);
    tcase_add_test(opening, test_open_arguments);
    tcase_add_loop_test(opening, test_not_a_store, 0, sizeof not_stores / sizeof *not_stores);
    tcase_add_test(opening, test_odd_files);
    tcase_add_test(opening, test_foreign_schema);
    tcase_add_loop_test(opening, test_read_only, 0, 3);
    tcase_add_test(opening, test_unreadable);
    suite_add_tcase(suite, opening);
    suite_add_tcase(suite, store_content_case());
    suite_add_tcase(suite, store_damage_case());
    suite_add_tcase(suite, store_damage_pattern_case());
    suite_add_tcase(suite, store_layers_case());
    suite_add_tcase(suite, store_merge_case());
    suite_add_tcase(suite, store_pattern_case());
    suite_add_tcase(suite, store_timings_case());
    return suite;
}
