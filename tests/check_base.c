/*
 * check_base.c: the lowest layer: the thread's last error and log lines, byte strings, content hashes. 16-bit numbers, of
 * this layer too, are tested in check_cpu_parts.c, over all their 65536 codes.
 */
#include "buf.h"
#include "check_alloc.h"
#include "error.h"
#include "hash.h"

#include <check.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *base_suite(void);

/* ---- error */

START_TEST(last_error_is_the_last)
{
    tamisi_error_clear();
    ck_assert_str_eq(tamis_last_error(), "");
    ck_assert_str_eq(tamis_last_error_detail(), "");
    ck_assert_int_eq(tamisi_fail(TAMIS_EIO, "%s: %d", "first", 1), TAMIS_EIO);
    tamisi_error_detail("line 1\nline 2");
    ck_assert_str_eq(tamis_last_error(), "first: 1");
    ck_assert_str_eq(tamis_last_error_detail(), "line 1\nline 2");
    ck_assert_int_eq(tamisi_fail(TAMIS_ECUDA, "second"), TAMIS_ECUDA);
    ck_assert_str_eq(tamis_last_error(), "second");
    ck_assert_str_eq(tamis_last_error_detail(), ""); /* it was the first one's */
    tamisi_error_clear();
    ck_assert_str_eq(tamis_last_error(), "");
}
END_TEST

START_TEST(error_is_one_line)
{
    tamisi_fail(TAMIS_EIO, "cannot open %s", "a\nfile\rname");
    ck_assert_str_eq(tamis_last_error(), "cannot open a file name");
    tamisi_fail(TAMIS_EIO, "in another: %s", tamis_last_error()); /* its own text as an argument */
    ck_assert_str_eq(tamis_last_error(), "in another: cannot open a file name");
}
END_TEST

/* Texts without end are cut, and terminated. */
START_TEST(error_of_any_length)
{
    const size_t bytes = 1 << 20;
    char *text = malloc(bytes + 1);
    ck_assert_ptr_nonnull(text);
    memset(text, 'x', bytes);
    text[bytes] = '\0';
    tamisi_fail(TAMIS_EIO, "%s", text);
    tamisi_error_detail(text);
    ck_assert_uint_ge(strlen(tamis_last_error()), 512);
    ck_assert_uint_lt(strlen(tamis_last_error()), bytes);
    ck_assert_uint_ge(strlen(tamis_last_error_detail()), 8192);
    ck_assert_uint_lt(strlen(tamis_last_error_detail()), bytes);
    free(text);
}
END_TEST

static void *fail_elsewhere(void *out)
{
    const char **first = out;
    *first = strcmp(tamis_last_error(), "") == 0 ? "" : "not empty";
    tamisi_fail(TAMIS_EIO, "theirs");
    return NULL;
}

START_TEST(error_belongs_to_the_thread)
{
    const char *found = NULL;
    pthread_t thread;
    tamisi_fail(TAMIS_EIO, "ours");
    ck_assert_int_eq(pthread_create(&thread, NULL, fail_elsewhere, &found), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_str_eq(found, "");
    ck_assert_str_eq(tamis_last_error(), "ours");
}
END_TEST

START_TEST(failing_allocates_nothing)
{
    if (!alloc_counted()) return;
    const long long before = alloc_count();
    tamisi_fail(TAMIS_ENOMEM, "out of memory: %zu bytes asked for", (size_t)1 << 40);
    tamisi_error_detail("why");
    const long long after = alloc_count();
    ck_assert_int_eq(after, before);
}
END_TEST

/* Pinned values: a host has them compiled in. */
START_TEST(status_values_and_names)
{
    static const struct {
        tamis_status status;
        int value;
        const char *name;
    } statuses[] = {{TAMIS_OK, 0, "TAMIS_OK"},
                    {TAMIS_EINVAL, -1, "TAMIS_EINVAL"},
                    {TAMIS_ENOMEM, -2, "TAMIS_ENOMEM"},
                    {TAMIS_ENOTFOUND, -3, "TAMIS_ENOTFOUND"},
                    {TAMIS_EUNSUPPORTED, -4, "TAMIS_EUNSUPPORTED"},
                    {TAMIS_EIO, -5, "TAMIS_EIO"},
                    {TAMIS_ECORRUPT, -6, "TAMIS_ECORRUPT"},
                    {TAMIS_EVERSION, -7, "TAMIS_EVERSION"},
                    {TAMIS_ENODEVICE, -8, "TAMIS_ENODEVICE"},
                    {TAMIS_ECUDA, -9, "TAMIS_ECUDA"},
                    {TAMIS_ECOMPILE, -10, "TAMIS_ECOMPILE"},
                    {TAMIS_EWORKSPACE, -11, "TAMIS_EWORKSPACE"}};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        ck_assert_int_eq((int)statuses[i].status, statuses[i].value);
        ck_assert_str_eq(tamis_status_name(statuses[i].status), statuses[i].name);
    }
    ck_assert_str_eq(tamis_status_name((tamis_status)-12), "unknown status");
    ck_assert_str_eq(tamis_status_name((tamis_status)1), "unknown status");
}
END_TEST

struct lines {
    int count;
    tamis_log_level level;
    char text[64];
};

static void take_line(void *payload, tamis_log_level level, const char *message)
{
    struct lines *lines = payload;
    lines->count++;
    lines->level = level;
    snprintf(lines->text, sizeof lines->text, "%s", message);
}

START_TEST(log_lines)
{
    struct lines lines = {0};
    const struct tamisi_log log = {take_line, &lines}, silent = {NULL, &lines};
    tamisi_log(&silent, TAMIS_LOG_WARNING, "nobody hears");
    tamisi_log(NULL, TAMIS_LOG_WARNING, "nobody hears");
    ck_assert_int_eq(lines.count, 0);
    tamisi_log(&log, TAMIS_LOG_INFO, "compiling %s\nfor %s", "attend", "sm_80");
    ck_assert_int_eq(lines.count, 1);
    ck_assert_int_eq(lines.level, TAMIS_LOG_INFO);
    ck_assert_str_eq(lines.text, "compiling attend for sm_80");
}
END_TEST

/* ---- buf */

START_TEST(buf_grows)
{
    struct tamisi_buf buf = TAMISI_BUF_INIT;
    for (int i = 0; i < 10000; i++) {
        tamisi_buf_printf(&buf, "%05d", i);
        tamisi_buf_append(&buf, "\0", 1);
    }
    ck_assert(!buf.failed);
    ck_assert_uint_eq(buf.size, 60000);
    for (int i = 0; i < 10000; i++) {
        if (atoi(buf.data + 6 * i) != i) ck_abort_msg("entry %d is %s", i, buf.data + 6 * i);
    }
    tamisi_buf_clear(&buf);
    ck_assert_uint_eq(buf.size, 0);
    ck_assert_str_eq(buf.data, "");
    tamisi_buf_puts(&buf, "again");
    ck_assert_str_eq(buf.data, "again");
    tamisi_buf_free(&buf);
    ck_assert_ptr_null(buf.data);
    ck_assert_uint_eq(buf.capacity, 0);
    tamisi_buf_free(&buf);
}
END_TEST

START_TEST(buf_edges)
{
    struct tamisi_buf buf = TAMISI_BUF_INIT;
    tamisi_buf_clear(&buf);
    tamisi_buf_append(&buf, NULL, 0);
    tamisi_buf_puts(&buf, "");
    ck_assert_uint_eq(buf.size, 0);
    char *taken = tamisi_buf_take(&buf);
    ck_assert_str_eq(taken, "");
    free(taken);

    struct tamisi_buf fresh = TAMISI_BUF_INIT; /* never touched */
    taken = tamisi_buf_take(&fresh);
    ck_assert_str_eq(taken, "");
    free(taken);
    ck_assert_ptr_null(fresh.data);

    for (size_t bytes = 60; bytes < 70; bytes++) { /* around the first allocation's size */
        char text[80] = {0};
        memset(text, 'a', bytes);
        tamisi_buf_puts(&buf, text);
        ck_assert_uint_gt(buf.capacity, buf.size);
        taken = tamisi_buf_take(&buf);
        ck_assert_str_eq(taken, text);
        free(taken);
    }
}
END_TEST

/* Once failed it stays so: what is missing in the middle must not look whole at the end. */
START_TEST(buf_fails_once_and_for_all)
{
    struct tamisi_buf buf = TAMISI_BUF_INIT;
    tamisi_buf_puts(&buf, "before");
    tamisi_buf_append(&buf, "x", SIZE_MAX - 10); /* not read: the size alone is refused */
    ck_assert(buf.failed);
    tamisi_buf_puts(&buf, "after");
    tamisi_buf_printf(&buf, "%d", 1);
    ck_assert_str_eq(buf.data, "before");
    ck_assert_ptr_null(tamisi_buf_take(&buf));
    ck_assert_ptr_null(buf.data);
    ck_assert(!buf.failed); /* taken, failed or not, it is new */
}
END_TEST

START_TEST(buf_without_memory)
{
    if (!alloc_counted()) return;
    struct tamisi_buf buf = TAMISI_BUF_INIT;
    tamisi_buf_puts(&buf, "before");
    char long_text[500];
    memset(long_text, 'y', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    alloc_refuse(0);
    tamisi_buf_puts(&buf, long_text);
    alloc_refuse(-1);
    ck_assert(buf.failed);
    ck_assert_str_eq(buf.data, "before");
    tamisi_buf_free(&buf);
}
END_TEST

/* ---- hash */

static void assert_hex(struct tamisi_hash hash, const char *expected)
{
    char hex[TAMISI_HASH_HEX_SIZE];
    tamisi_hash_hex(&hash, hex);
    ck_assert_str_eq(hex, expected);
}

/* Stores outlive libraries: the values are pinned. The first is XXH3-128's published hash of nothing. */
START_TEST(hash_values)
{
    assert_hex(tamisi_hash_bytes("", 0), "99aa06d3014798d86001c324468d497f");
    assert_hex(tamisi_hash_bytes("a", 1), "a96faf705af16834e6c632b61e964e1f");
    assert_hex(tamisi_hash_bytes("abc", 3), "06b05ab6733a618578af5f94892f3950");
}
END_TEST

START_TEST(hash_of_parts)
{
    const struct tamisi_hash_part one[] = {{"ab", 2}, {"c", 1}}, other[] = {{"a", 1}, {"bc", 2}};
    const struct tamisi_hash_part empty_last[] = {{"ab", 2}, {"c", 1}, {"", 0}};
    const struct tamisi_hash_part no_data[] = {{"ab", 2}, {"c", 1}, {NULL, 0}};
    const struct tamisi_hash a = tamisi_hash_parts(one, 2), b = tamisi_hash_parts(other, 2);
    const struct tamisi_hash c = tamisi_hash_parts(empty_last, 3), d = tamisi_hash_parts(no_data, 3);
    const struct tamisi_hash again = tamisi_hash_parts(one, 2), prefix = tamisi_hash_parts(one, 1);
    ck_assert(!tamisi_hash_equal(&a, &b));
    ck_assert(!tamisi_hash_equal(&a, &c));
    ck_assert(!tamisi_hash_equal(&a, &prefix));
    ck_assert(tamisi_hash_equal(&c, &d));
    ck_assert(tamisi_hash_equal(&a, &again));
}
END_TEST

/* One flipped bit anywhere changes it, at every length around the algorithm's own boundaries. */
START_TEST(hash_sees_every_bit)
{
    unsigned char data[300];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 37);
    for (size_t bytes = 1; bytes <= sizeof data; bytes++) {
        const struct tamisi_hash whole = tamisi_hash_bytes(data, bytes);
        for (size_t bit = 0; bit < 8 * bytes; bit += 1 + bytes / 8) {
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            const struct tamisi_hash flipped = tamisi_hash_bytes(data, bytes);
            data[bit / 8] ^= (unsigned char)(1u << bit % 8);
            if (tamisi_hash_equal(&whole, &flipped)) ck_abort_msg("%zu bytes, bit %zu", bytes, bit);
        }
    }
}
END_TEST

Suite *base_suite(void)
{
    Suite *suite = suite_create("base");
    TCase *error = tcase_create("error"), *buf = tcase_create("buf"), *hash = tcase_create("hash");
    tcase_add_test(error, last_error_is_the_last);
    tcase_add_test(error, error_is_one_line);
    tcase_add_test(error, error_of_any_length);
    tcase_add_test(error, error_belongs_to_the_thread);
    tcase_add_test(error, failing_allocates_nothing);
    tcase_add_test(error, status_values_and_names);
    tcase_add_test(error, log_lines);
    tcase_add_test(buf, buf_grows);
    tcase_add_test(buf, buf_edges);
    tcase_add_test(buf, buf_fails_once_and_for_all);
    tcase_add_test(buf, buf_without_memory);
    tcase_add_test(hash, hash_values);
    tcase_add_test(hash, hash_of_parts);
    tcase_add_test(hash, hash_sees_every_bit);
    suite_add_tcase(suite, error);
    suite_add_tcase(suite, buf);
    suite_add_tcase(suite, hash);
    return suite;
}
