/*
 * check_store_damage.c: stores that are cut, flipped, tampered with, interrupted or out of room.
 *
 * The rule under test: a clear status or a miss with a warning, never a wrong kernel; and what is sound stays readable.
 */
#define _GNU_SOURCE

#include "store_case.h"
#include "store_internal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KERNELS 8
#define ENTRIES (3 * KERNELS) /* that fill_count_absent looks for */

static char *image; /* the sound store's bytes */
static size_t image_bytes;

static void read_image(void)
{
    struct stat info;
    FILE *in = fopen(store_file, "rb");

    ck_assert_ptr_nonnull(in);
    ck_assert_int_eq(fstat(fileno(in), &info), 0);
    image_bytes = (size_t)info.st_size;
    image = malloc(image_bytes);
    ck_assert_ptr_nonnull(image);
    ck_assert_uint_eq(fread(image, 1, image_bytes, in), image_bytes);
    fclose(in);
}

static void damage_set_up(void)
{
    store_set_up();
    store_make(KERNELS);
    read_image();
}

/* The same in the newest format: a spec more, which names a pattern. */
static void patterned_set_up(void)
{
    char name[] = "patterned", text[] = "a: 1\n", pattern[] = "2 4 200";
    const struct tamisi_spec_row spec = {name, TAMIS_PROBLEM_INIT, 32, NULL, text, pattern};
    tamis_store *store;

    store_set_up();
    store_make(KERNELS);
    store = store_must_open(TAMIS_STORE_WRITE);
    store_must(tamisi_store_put_spec(store, &spec));
    tamis_store_free(store);
    read_image();
}

static void damage_tear_down(void)
{
    free(image);
    store_tear_down();
}

/* The image with one bit of byte `at` turned over, cut to `bytes`. */
static void write_image(size_t bytes, size_t at, int bit)
{
    int out = open(store_file, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    ck_assert_int_ge(out, 0);
    ck_assert_int_eq(write(out, image, bytes), (ssize_t)bytes);
    if (at < bytes) {
        char byte = (char)(image[at] ^ (1 << bit));

        ck_assert_int_eq(pwrite(out, &byte, 1, (off_t)at), 1);
    }
    close(out);
}

/* Where in the image a text is; it must be there. */
static size_t find_in_image(const char *text)
{
    const char *at = memmem(image, image_bytes, text, strlen(text));

    ck_assert_ptr_nonnull(at);
    return (size_t)(at - image);
}

static bool is_clear(tamis_status status)
{
    return (status == TAMIS_ECORRUPT || status == TAMIS_EVERSION || status == TAMIS_EIO) && *tamis_last_error() != '\0' &&
           strchr(tamis_last_error(), '\n') == NULL;
}

/* Use whatever is in the file in each way. Returns how many entries are absent, ENTRIES if it cannot be opened. */
static int survive(tamis_store_mode mode, size_t at)
{
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    tamis_problem filled = TAMIS_PROBLEM_INIT;
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    tamis_store *store = NULL;
    tamis_status status = store_open(&store, mode);
    int absent, wrong = 0;

    if (status != TAMIS_OK) {
        ck_assert_msg(is_clear(status), "byte %zu: status %d, \"%s\"", at, (int)status, tamis_last_error());
        ck_assert_ptr_null(store);
        return ENTRIES;
    }
    absent = fill_count_absent(store, KERNELS, &wrong);
    ck_assert_msg(wrong == 0, "byte %zu: %d wrong entries", at, wrong);
    ck_assert_msg(absent == 0 || store_warnings > 0, "byte %zu: %d absent without a warning", at, absent);
    status = tamis_store_problem(&filled, store, "spec_1");
    ck_assert_msg(status == TAMIS_ENOTFOUND || (status == TAMIS_OK && filled.head_dim == 128 && filled.kv_heads == 8),
                  "byte %zu: %d, head_dim %d", at, (int)status, filled.head_dim);
    status = tamis_store_pattern(&pattern, store, "patterned");
    ck_assert_msg(status == TAMIS_ENOTFOUND || (status == TAMIS_OK && pattern.kind == TAMIS_PATTERN_SLIDING &&
                                                pattern.sliding.sink_tokens == 4 && pattern.sliding.window_tokens == 200),
                  "byte %zu: %d, pattern %d", at, (int)status, (int)pattern.kind);
    status = tamisi_store_check(store, &problem);
    ck_assert(status == TAMIS_OK || is_clear(status));
    tamisi_buf_free(&problem);
    tamis_store_free(store);
    return absent;
}

START_TEST(test_truncated)
{
    tamis_store *store;
    int absent = ENTRIES;

    for (size_t bytes = 0; bytes < image_bytes; bytes += 4096) {
        write_image(bytes, SIZE_MAX, 0);
        store_warnings = 0;
        absent = survive(TAMIS_STORE_READ, bytes);
        store_warnings = 0;
        ck_assert_int_eq(survive(TAMIS_STORE_WRITE, bytes), absent);
        if (bytes == 0) continue; /* a place for a store */
        ck_assert_int_eq(store_open(&store, TAMIS_STORE_CREATE), TAMIS_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(tamis_last_error(), "is damaged"));
    }
    /* Without its last page a store has lost what was on it, no more. */
    ck_assert_int_ge(absent, 1);
    ck_assert_int_le(absent, 3);
    ck_assert_ptr_nonnull(strstr(store_warning, "counts as absent"));
}
END_TEST

/* Every 97th byte of the file, and the headers of all pages, where a bit means most. */
START_TEST(test_flipped)
{
    long opened = 0, lost = 0, flips = 0;

    for (size_t at = 0; at < image_bytes; at++) {
        bool is_header = at < 110 || at % 4096 < 24;
        int absent;

        if (at % 97 != 0 && !is_header) continue;
        write_image(image_bytes, at, (int)(at % 8));
        store_warnings = 0;
        absent = survive(flips % 4 == 0 ? TAMIS_STORE_WRITE : TAMIS_STORE_READ, at);
        if (!is_header && absent < ENTRIES) {
            opened++;
            lost += absent;
        }
        flips++;
    }
    /* One bit costs about one entry: nothing that is sound goes with it. */
    ck_assert_int_gt(opened, 100);
    ck_assert_msg(lost <= opened + opened / 2, "%ld entries lost with %ld bits", lost, opened);
}
END_TEST

/* A bit inside a cubin, a source or a variant: that one is absent, with one warning, and putting it again mends it. */
START_TEST(test_mended)
{
    static const char *const marks[] = {"cubin mark 5", "source 6", "int value_7_100", "block_m=64 ", "kernel_3_1"};
    tamis_store *store;
    int wrong = 0;

    write_image(image_bytes, find_in_image(marks[_i]) + 3, 2);
    store = store_must_open(TAMIS_STORE_WRITE);
    ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong), 1);
    ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong), 1);
    ck_assert_int_eq(store_warnings, 1);
    ck_assert_ptr_nonnull(strstr(store_warning, "counts as absent"));
    for (int i = 0; i < KERNELS; i++) store_must(fill_put(store, i));
    ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong), 0);
    ck_assert_int_eq(wrong, 0);
    tamis_store_free(store);
    store_warnings = 0;
    ck_assert_int_eq(survive(TAMIS_STORE_READ, 0), 0);
    ck_assert_int_eq(store_warnings, 0);
}
END_TEST

static int require_intact(void *payload, const struct tamisi_store_item *item)
{
    (void)payload;
    ck_assert_msg(item->intact, "%s %s is still damaged", item->kind, item->name);
    return 0;
}

/* Rows that SQLite finds perfect: swapped, retyped, shortened, with another's key. */
START_TEST(test_tampered)
{
    static const struct {
        const char *sql;
        int absent;
    } changes[] = {
        {"UPDATE cubin SET data = (SELECT c.data FROM cubin c WHERE c.id <> cubin.id LIMIT 1)", KERNELS - 1},
        {"UPDATE cubin SET checksum = NULL", KERNELS},
        {"UPDATE cubin SET checksum = zeroblob(16)", KERNELS},
        {"UPDATE cubin SET data = CAST(data AS TEXT)", KERNELS},
        {"UPDATE cubin SET data = 7, nvrtc = 3.5, arch = NULL", KERNELS},
        {"UPDATE cubin SET source = zeroblob(15)", KERNELS},
        {"UPDATE cubin SET id = id + 1", KERNELS},
        {"UPDATE source SET text = text || ' '", KERNELS},
        {"UPDATE source SET text = text || char(0)", KERNELS},
        {"UPDATE variant SET rank = rank + 1", KERNELS},
        {"UPDATE variant SET rank = 99999999999, entries = 'x'", KERNELS},
        {"UPDATE variant SET dtype = CAST(dtype AS REAL)", KERNELS},
        {"UPDATE spec SET name = 'spec_9', scale = 'a', window = x'00'", 0},
    };
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_store *store;
    int wrong = 0;

    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        write_image(image_bytes, SIZE_MAX, 0);
        store_execute(changes[i].sql);
        store_warnings = 0;
        store = store_must_open(TAMIS_STORE_WRITE);
        ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong), changes[i].absent);
        ck_assert_int_eq(store_warnings, changes[i].absent);
        if (changes[i].absent == 0)
            store_expect(tamis_store_problem(&problem, store, "spec_9"), TAMIS_ENOTFOUND, "has no spec");
        for (int k = 0; k < KERNELS; k++) store_must(fill_put(store, k));
        ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong), 0);
        if (changes[i].absent > 0) store_must(tamisi_store_visit(store, require_intact, NULL));
        tamis_store_free(store);
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* A page whose header is gone: reading goes on around it, and nothing is written into such a file. */
START_TEST(test_structure)
{
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    tamis_store *store;
    struct stat before, after;
    size_t page = find_in_image("block_m=64 ") / 4096 * 4096;
    int wrong = 0, absent;

    write_image(image_bytes, page, 0); /* its type */
    stat(store_file, &before);
    store = store_must_open(TAMIS_STORE_WRITE);
    ck_assert(tamisi_store_writable(store));
    absent = fill_count_absent(store, KERNELS, &wrong);
    ck_assert_int_ge(absent, 1);
    ck_assert_int_le(absent, KERNELS);
    ck_assert_ptr_nonnull(strstr(store_warning, "counts as absent"));
    store_expect(fill_put(store, KERNELS), TAMIS_ECORRUPT, "its structure is damaged");
    ck_assert(!tamisi_store_writable(store));
    store_expect(fill_put(store, KERNELS), TAMIS_EUNSUPPORTED, "read-only");
    ck_assert_int_le(fill_count_absent(store, KERNELS, &wrong), absent);
    store_must(tamisi_store_check(store, &problem));
    ck_assert_str_ne(problem.data, "");
    tamisi_buf_free(&problem);
    tamis_store_free(store);
    stat(store_file, &after);
    ck_assert_int_eq(before.st_size, after.st_size);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* In a child whose files may not grow past `limit`: put more kernels; 0 if every failure was a clear one. */
static int fill_up(rlim_t limit)
{
    struct rlimit room = {limit, limit};
    tamis_store *store = NULL;
    tamis_status status;
    int failures = 0;

    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &room) != 0) return 2;
    status = store_open(&store, TAMIS_STORE_CREATE);
    if (status != TAMIS_OK) return is_clear(status) ? 0 : 3;
    for (int i = KERNELS; i < 2 * KERNELS; i++) {
        status = fill_put(store, i);
        if (status != TAMIS_OK && !is_clear(status)) failures++;
        if (status == TAMIS_OK && fill_get_cubin(store, i, NULL) != FILL_RIGHT) failures++;
    }
    tamis_store_free(store);
    return failures > 0 ? 1 : 0;
}

START_TEST(test_full_disk)
{
    tamis_store *store;
    int wrong = 0, status;
    bool sound_before;

    for (size_t limit = 0; limit < image_bytes + 200000; limit += 20000) {
        pid_t child;

        sound_before = limit % 40000 == 0;
        if (sound_before) write_image(image_bytes, SIZE_MAX, 0);
        else unlink(store_file);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) _exit(fill_up((rlim_t)limit));
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "limit %zu: status %x", limit, (unsigned)status);
        if (access(store_file, F_OK) != 0) continue;
        store = store_must_open(TAMIS_STORE_CREATE);
        status = fill_count_absent(store, KERNELS, &wrong);
        ck_assert_int_eq(status, sound_before ? 0 : ENTRIES);
        for (int i = 0; i < 2 * KERNELS; i++) store_must(fill_put(store, i));
        ck_assert_int_eq(fill_count_absent(store, 2 * KERNELS, &wrong), 0);
        tamis_store_free(store);
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(test_full_database)
{
    tamis_store *store = store_must_open(TAMIS_STORE_WRITE);
    char sql[64];
    int wrong = 0;

    snprintf(sql, sizeof sql, "PRAGMA max_page_count=%zu", image_bytes / 4096 + 3);
    ck_assert_int_eq(sqlite3_exec(store->db, sql, NULL, NULL, NULL), SQLITE_OK);
    store_expect(fill_put_cubin(store, 20, FILL_NVRTC), TAMIS_EIO, "the disk is full");
    store_must(tamisi_store_begin(store));
    store_must(fill_put_cubin(store, KERNELS / 8, "small"));
    store_expect(fill_put_cubin(store, 20, FILL_NVRTC), TAMIS_EIO, "the disk is full");
    store_expect(fill_put_cubin(store, 21, FILL_NVRTC), TAMIS_EIO, "was rolled back");
    tamisi_store_rollback(store);
    ck_assert_int_eq(fill_count_absent(store, KERNELS, &wrong) + wrong, 0);
    ck_assert_int_eq(fill_get_cubin(store, 20, FILL_NVRTC), FILL_ABSENT);
    tamis_store_free(store);
}
END_TEST

/* Die in the middle of a transaction, with pages of it already in the file. */
static void write_and_die(void)
{
    tamis_store *store = NULL;

    if (store_open(&store, TAMIS_STORE_WRITE) != TAMIS_OK) _exit(1);
    sqlite3_exec(store->db, "PRAGMA cache_size=2", NULL, NULL, NULL);
    if (tamisi_store_begin(store) != TAMIS_OK) _exit(2);
    for (int i = 0; i < 2 * KERNELS; i++)
        if (fill_put_cubin(store, i, "unfinished") != TAMIS_OK) _exit(3);
    _exit(0);
}

START_TEST(test_cut_off_write)
{
    tamis_store *store = NULL;
    struct stat info;
    int status;
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) write_and_die();
    waitpid(child, &status, 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    stat(store_file, &info);
    ck_assert_int_gt(info.st_size, (off_t)image_bytes);
    store_expect(store_open(&store, TAMIS_STORE_READ), TAMIS_EIO, "a write was cut off");
    ck_assert_int_eq(survive(TAMIS_STORE_WRITE, 0), 0);
    ck_assert_int_eq(survive(TAMIS_STORE_READ, 0), 0);
    stat(store_file, &info);
    ck_assert_int_eq(info.st_size, (off_t)image_bytes);
}
END_TEST

TCase *store_damage_case(void)
{
    TCase *damage = tcase_create("damage");

    tcase_add_checked_fixture(damage, damage_set_up, damage_tear_down);
    tcase_set_timeout(damage, 300);
    tcase_add_test(damage, test_truncated);
    tcase_add_test(damage, test_flipped);
    tcase_add_loop_test(damage, test_mended, 0, 5);
    tcase_add_test(damage, test_tampered);
    tcase_add_test(damage, test_structure);
    tcase_add_test(damage, test_full_disk);
    tcase_add_test(damage, test_full_database);
    tcase_add_test(damage, test_cut_off_write);
    return damage;
}

TCase *store_damage_pattern_case(void)
{
    TCase *damage = tcase_create("damage_pattern");

    tcase_add_checked_fixture(damage, patterned_set_up, damage_tear_down);
    tcase_set_timeout(damage, 300);
    tcase_add_test(damage, test_truncated);
    tcase_add_test(damage, test_flipped);
    tcase_add_test(damage, test_full_disk);
    tcase_add_test(damage, test_cut_off_write);
    return damage;
}
