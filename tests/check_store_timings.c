/*
 * check_store_timings.c: timings in the store: one result a key, the journal beside it, what damage costs, and files of the
 * format that had none.
 */
#define _GNU_SOURCE

#include "store_case.h"

#include <math.h>

static void put(tamis_store *store, const struct tamisi_timing *timing)
{
    store_must(tamisi_store_put_timing(store, timing));
}

/* Those of the key that fill_timing has; the first of them into *out. */
static size_t find(tamis_store *store, struct tamisi_timing *out)
{
    struct tamisi_timing *timings = NULL;
    size_t count = 0;

    store_must(tamisi_store_find_timings(&timings, &count, store, "attend", FILL_ARCH, 128, 80));
    if (count > 0) *out = timings[0];
    free(timings);
    return count;
}

START_TEST(test_round_trip)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(3), found, other;
    struct tamisi_timing *none = NULL;
    size_t count = 1;

    snprintf(timing.note, sizeof timing.note, "as said");
    put(store, &timing);
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_mem_eq(&found, &timing, sizeof found);
    store_must(tamisi_store_find_timings(&none, &count, store, "attend", FILL_ARCH, 64, 80));
    ck_assert_uint_eq(count, 0);
    store_must(tamisi_store_find_timings(&none, &count, store, "score", FILL_ARCH, 128, 80));
    ck_assert_uint_eq(count, 0);
    other = timing;
    store_expect(tamisi_store_put_timing(store, &other), TAMIS_EUNSUPPORTED, "read-only");
    tamis_store_free(store);
}
END_TEST

START_TEST(test_bad_timings)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(0);

    timing.median_us = (double)NAN;
    store_expect(tamisi_store_put_timing(store, &timing), TAMIS_EINVAL, "kernel_0");
    timing = fill_timing(0);
    timing.state = TAMISI_TIMING_STATES;
    store_expect(tamisi_store_put_timing(store, &timing), TAMIS_EINVAL, "kernel_0");
    timing = fill_timing(0);
    memset(timing.variant, 'x', sizeof timing.variant);
    store_expect(tamisi_store_put_timing(store, &timing), TAMIS_EINVAL, "too long");
    ck_assert_uint_eq(find(store, &timing), 0);
    tamis_store_free(store);
}
END_TEST

/* Whatever differs in the key makes a row of its own. */
START_TEST(test_keys)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(0), changed;
    size_t rows = 1;

    put(store, &timing);
#define CHANGE(member, value)                                                                                              \
    changed = timing;                                                                                                      \
    changed.member = value;                                                                                                \
    put(store, &changed);                                                                                                  \
    ck_assert_uint_eq(find(store, &changed), ++rows)
    CHANGE(source, fill_hash(1));
    CHANGE(bucket.dtype, 0);
    CHANGE(bucket.q_heads, 64);
    CHANGE(bucket.kv_heads, 4);
    CHANGE(bucket.batch, 2);
    CHANGE(bucket.seq_len, 8193);
    CHANGE(bucket.kept, 4161);
    CHANGE(bucket.dense, true);
    CHANGE(bucket.scope, 1);
    CHANGE(bucket.window, 64);
    CHANGE(gpu.sm_count, 132);
    CHANGE(gpu.l2_bytes, 1);
    CHANGE(gpu.driver_major, 12);
#undef CHANGE
    tamis_store_free(store);
}
END_TEST

/* Of a block pattern's family the bucket has other members, in the same columns. */
START_TEST(test_lists)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(0), other, *found = NULL;
    size_t count = 0;

    snprintf(timing.family, sizeof timing.family, "attend_blocks");
    timing.bucket.scope = timing.bucket.window = 0;
    timing.bucket.pattern = TAMIS_PATTERN_HOST_BLOCKS;
    timing.bucket.detail = 250;
    put(store, &timing);
    other = timing;
    other.bucket.detail = 100;
    put(store, &other);
    other.bucket.pattern = TAMIS_PATTERN_XATTENTION;
    put(store, &other);
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    store_must(tamisi_store_find_timings(&found, &count, store, "attend_blocks", FILL_ARCH, 128, 80));
    ck_assert_uint_eq(count, 3);
    for (size_t i = 0; i < count; i++)
        ck_assert(memcmp(&found[i], &timing, sizeof timing) == 0 || found[i].bucket.detail == 100);
    free(found);
    store_must(tamisi_store_find_timings(&found, &count, store, "attend", FILL_ARCH, 128, 80));
    ck_assert_uint_eq(count, 0);
    free(found);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_supersede)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(0), found = timing;
    const struct {
        enum tamisi_rigor rigor;
        int later;
        bool wins;
    } steps[] = {{TAMISI_QUICK, 5, false},     {TAMISI_NORMAL, -5, false},     {TAMISI_NORMAL, 1, true},
                 {TAMISI_EXHAUSTIVE, -9, true}, {TAMISI_NORMAL, 100, false}};

    put(store, &timing);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct tamisi_timing next = timing;

        next.rigor = steps[i].rigor;
        next.when += steps[i].later;
        next.median_us = (double)(i + 1);
        put(store, &next);
        ck_assert_uint_eq(find(store, &found), 1);
        ck_assert_int_eq(found.median_us == next.median_us, steps[i].wins);
        if (steps[i].wins) timing = next;
    }
    tamis_store_free(store);
}
END_TEST

/* A candidate that is begun anew keeps the result that it has. */
START_TEST(test_journal)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    struct tamisi_timing timing = fill_timing(0), started = timing, found;

    started.state = TAMISI_STARTED;
    started.rounds = 1;
    put(store, &timing);
    put(store, &started);
    ck_assert_uint_eq(find(store, &found), 2);
    started.rounds = 2;
    put(store, &started);
    ck_assert_uint_eq(find(store, &found), 2);
    store_must(tamisi_store_begin(store));
    store_must(tamisi_store_end_timing(store, &timing));
    store_must(tamisi_store_end_timing(store, &timing));
    put(store, &timing);
    store_must(tamisi_store_commit(store));
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_mem_eq(&found, &timing, sizeof found);
    tamis_store_free(store);
}
END_TEST

static void make_format_1(void)
{
    store_make(2);
    store_execute("DROP TABLE timing; PRAGMA user_version=1");
}

/* It is read as it is, and written as it is until the first timing; a handle that was open before sees that too. */
START_TEST(test_older_format)
{
    struct tamisi_timing timing = fill_timing(0), found;
    struct tamisi_store_gc_result gc;
    tamis_store *store, *reader;
    int wrong = 0;

    make_format_1();
    store = store_must_open(TAMIS_STORE_WRITE);
    reader = store_must_open(TAMIS_STORE_READ);
    ck_assert_uint_eq(find(store, &found), 0);
    store_must(fill_put(store, 2));
    store_must(tamisi_store_end_timing(store, &timing));
    store_must(tamisi_store_gc(store, &gc));
    ck_assert_int_eq(fill_count_absent(store, 3, &wrong), 0);
    store_must(tamisi_store_begin(store));
    put(store, &timing);
    tamisi_store_rollback(store);
    ck_assert_uint_eq(find(store, &found), 0);
    tamis_store_free(store_must_open(TAMIS_STORE_READ)); /* still a sound store of format 1 */
    put(store, &timing);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_uint_eq(find(reader, &found), 1);
    tamis_store_free(reader);
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_int_eq(fill_count_absent(store, 3, &wrong), 0);
    ck_assert_int_eq(wrong, 0);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_damage)
{
    struct tamisi_timing timing = fill_timing(0), found;
    struct tamisi_store_gc_result gc;
    tamis_store *store;

    store_make(2);
    store = store_must_open(TAMIS_STORE_WRITE);
    put(store, &timing);
    timing = fill_timing(1);
    put(store, &timing);
    tamis_store_free(store);
    store_execute("UPDATE timing SET median_us = 1.0 WHERE variant = 'kernel_0'");
    store_warnings = 0;
    store = store_must_open(TAMIS_STORE_WRITE);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_str_eq(found.variant, "kernel_1");
    ck_assert_int_eq(store_warnings, 1);
    ck_assert_ptr_nonnull(strstr(store_warning, "timing \"kernel_0\""));
    timing = fill_timing(0);
    put(store, &timing); /* in place of the damaged one */
    ck_assert_uint_eq(find(store, &found), 2);
    timing.source = fill_hash(99); /* which no variant has */
    put(store, &timing);
    ck_assert_uint_eq(find(store, &found), 3);
    store_must(tamisi_store_gc(store, &gc));
    ck_assert_int_eq(gc.removed, 1);
    ck_assert_uint_eq(find(store, &found), 2);
    tamis_store_free(store);
}
END_TEST

/* What a handle keeps of timings follows what others, and it itself, write. */
START_TEST(test_kept)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE), *other = store_must_open(TAMIS_STORE_WRITE);
    struct tamisi_timing timing = fill_timing(0), found;

    ck_assert_uint_eq(find(store, &found), 0);
    ck_assert_uint_eq(find(store, &found), 0);
    put(other, &timing);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_mem_eq(&found, &timing, sizeof found);
    timing.when++;
    timing.median_us = 3;
    put(store, &timing);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_double_eq(found.median_us, 3);
    store_must(tamisi_store_begin(store));
    timing.when++;
    timing.median_us = 4;
    put(store, &timing);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_double_eq(found.median_us, 4);
    tamisi_store_rollback(store);
    ck_assert_uint_eq(find(store, &found), 1);
    ck_assert_double_eq(found.median_us, 3);
    for (int head_dim = 0; head_dim < 20; head_dim++) { /* more than are kept */
        struct tamisi_timing *none = NULL;
        size_t count = 1;

        store_must(tamisi_store_find_timings(&none, &count, store, "attend", FILL_ARCH, head_dim, 80));
        ck_assert_uint_eq(count, 0);
        free(none);
    }
    ck_assert_uint_eq(find(store, &found), 1);
    tamis_store_free(other);
    tamis_store_free(store);
}
END_TEST

static int count_timing(void *payload, const struct tamisi_store_item *item)
{
    *(int *)payload += strcmp(item->kind, "timing") == 0 && strcmp(item->arch, FILL_ARCH) == 0 && item->key[0] != '\0';
    return 0;
}

/* The union takes results, the better of two, and leaves journals alone; a copy takes those of given sources. */
START_TEST(test_merge)
{
    struct tamisi_timing timing = fill_timing(0), found;
    struct tamisi_merge merge = {.report = NULL};
    const struct tamisi_hash wanted = fill_hash(1);
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *from = store_must_open(TAMIS_STORE_CREATE), *into = NULL;
    int items = 0;

    options.mode = TAMIS_STORE_CREATE;
    store_must(tamis_store_open(&into, folder_file("b.tamis"), &options));
    put(from, &timing);
    timing.when++;
    timing.median_us = 7;
    put(into, &timing);
    timing = fill_timing(1);
    put(from, &timing);
    timing = fill_timing(2);
    timing.state = TAMISI_STARTED;
    put(from, &timing);
    store_must(tamisi_store_merge(into, from, &merge));
    ck_assert_int_eq(merge.conflicts, 0);
    ck_assert_uint_eq(find(into, &found), 2);
    store_must(tamisi_store_visit(into, count_timing, &items));
    ck_assert_int_eq(items, 2);
    tamis_store_free(into);
    store_must(tamis_store_open(&into, folder_file("c.tamis"), &options));
    store_must(tamisi_store_copy_timings(into, from, &wanted, 1));
    ck_assert_uint_eq(find(into, &found), 1);
    ck_assert_str_eq(found.variant, "kernel_1");
    tamis_store_free(into);
    tamis_store_free(from);
}
END_TEST

TCase *store_timings_case(void)
{
    TCase *timings = tcase_create("timings");

    tcase_add_checked_fixture(timings, store_set_up, store_tear_down);
    tcase_set_timeout(timings, 60);
    tcase_add_test(timings, test_round_trip);
    tcase_add_test(timings, test_bad_timings);
    tcase_add_test(timings, test_keys);
    tcase_add_test(timings, test_lists);
    tcase_add_test(timings, test_supersede);
    tcase_add_test(timings, test_journal);
    tcase_add_test(timings, test_older_format);
    tcase_add_test(timings, test_damage);
    tcase_add_test(timings, test_merge);
    tcase_add_test(timings, test_kept);
    return timings;
}
