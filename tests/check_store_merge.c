/*
 * check_store_merge.c: the union of stores: what is added, what stays, who wins, and what damage costs.
 *
 * `from` is the suite's store file a.tamis, `into` is b.tamis beside it.
 */
#define _GNU_SOURCE

#include "store_case.h"

static struct tamisi_store_conflict reported[8]; /* texts do not outlive their report: only which members there are */
static char reported_names[8][64];
static int report_count;

static void count_conflict(void *payload, const struct tamisi_store_conflict *conflict)
{
    ck_assert_ptr_eq(payload, &report_count);
    ck_assert_int_lt(report_count, 8);
    reported[report_count] = *conflict;
    snprintf(reported_names[report_count], sizeof reported_names[0], "%s %s %s", conflict->kind, conflict->spec,
             conflict->variant != NULL ? conflict->variant : "-");
    report_count++;
}

static tamis_store *open_target(void)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = NULL;

    options.mode = TAMIS_STORE_CREATE;
    store_must(tamis_store_open(&store, folder_file("b.tamis"), &options));
    return store;
}

/* b.tamis with both specs and kernels first to last - 1. */
static tamis_store *make_target(int first, int last)
{
    tamis_store *store = open_target();

    store_must(fill_put_spec(store, 0));
    store_must(fill_put_spec(store, 1));
    for (int i = first; i < last; i++) store_must(fill_put(store, i));
    return store;
}

static struct tamisi_merge merge_into(tamis_store *into, bool prefer_last)
{
    struct tamisi_merge merge = {.prefer_last = prefer_last, .report = count_conflict, .payload = &report_count};
    tamis_store *from = store_must_open(TAMIS_STORE_READ);

    report_count = 0;
    store_must(tamisi_store_merge(into, from, &merge));
    tamis_store_free(from);
    ck_assert_int_eq(merge.conflicts, report_count);
    return merge;
}

static size_t count_variants(tamis_store *store, const char *spec)
{
    const struct tamisi_variant_query query = {.spec = spec, .dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants = NULL;
    size_t count = 0;

    store_must(tamisi_store_find_variants(&variants, &count, store, &query));
    free(variants);
    return count;
}

START_TEST(test_union)
{
    store_make(4); /* 0 to 3 */
    tamis_store *into = make_target(2, 6);
    struct tamisi_merge merge = merge_into(into, false);

    ck_assert_int_eq(merge.added, 3 * 2);    /* kernels 0 and 1 */
    ck_assert_int_eq(merge.kept, 2 + 3 * 2); /* the specs, kernels 2 and 3 */
    ck_assert_int_eq(merge.conflicts + merge.left_out + merge.damaged, 0);
    ck_assert(!merge.torn);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(fill_get_source(into, i), FILL_RIGHT);
        ck_assert_int_eq(fill_get_cubin(into, i, FILL_NVRTC), FILL_RIGHT);
    }
    ck_assert_uint_eq(count_variants(into, NULL), 6);
    merge = merge_into(into, true);
    ck_assert_int_eq(merge.added, 0);
    ck_assert_int_eq(merge.kept, 2 + 3 * 4);
    tamis_store_free(into);
}
END_TEST

/* In a transaction of the caller's nothing is there before the commit, and nothing after a rollback. */
START_TEST(test_transaction)
{
    store_make(3);
    tamis_store *into = open_target();

    store_must(tamisi_store_begin(into));
    ck_assert_int_eq(merge_into(into, false).added, 2 + 3 * 3);
    store_expect(tamisi_store_compact(into), TAMIS_EINVAL, "a transaction is open");
    tamisi_store_rollback(into);
    ck_assert_uint_eq(count_variants(into, NULL), 0);
    ck_assert_int_eq(merge_into(into, false).added, 2 + 3 * 3);
    store_must(tamisi_store_compact(into));
    ck_assert_uint_eq(count_variants(into, NULL), 3);
    tamis_store_free(into);
}
END_TEST

START_TEST(test_own_file)
{
    store_make(3);
    tamis_store *into = store_must_open(TAMIS_STORE_WRITE);
    struct tamisi_merge merge = merge_into(into, false);

    ck_assert_int_eq(merge.added, 0);
    ck_assert_int_eq(merge.kept, 2 + 3 * 3);
    tamis_store_free(into);
}
END_TEST

START_TEST(test_read_only_target)
{
    struct tamisi_merge merge = {.prefer_last = false};
    tamis_store *into, *from;

    store_make(1);
    from = store_must_open(TAMIS_STORE_READ);
    into = store_must_open(TAMIS_STORE_READ);
    store_expect(tamisi_store_merge(into, from, &merge), TAMIS_EUNSUPPORTED, "read-only");
    tamis_store_free(into);
    tamis_store_free(from);
}
END_TEST

/* Spec 0 of a.tamis has other content: who loses, loses its variants too. Even kernels are spec 0's. */
START_TEST(test_other_spec)
{
    const bool prefer_last = _i == 1;
    tamis_store *from, *into;
    struct tamisi_spec_row spec;
    struct tamisi_merge merge;

    store_make(4);
    from = store_must_open(TAMIS_STORE_WRITE);
    store_must(tamisi_store_get_spec(&spec, from, "spec_0"));
    spec.layers = 7;
    store_must(tamisi_store_put_spec(from, &spec));
    tamisi_spec_row_free(&spec);
    tamis_store_free(from);

    into = make_target(4, 8);
    merge = merge_into(into, prefer_last);
    ck_assert_int_eq(merge.conflicts, 1);
    ck_assert_str_eq(reported_names[0], "spec spec_0 -");
    ck_assert_ptr_null(reported[0].arch);
    ck_assert_int_eq(merge.left_out, prefer_last ? 0 : 1 + 2);
    ck_assert_int_eq(merge.kept, 1);
    store_must(tamisi_store_get_spec(&spec, into, "spec_0"));
    ck_assert_int_eq(spec.layers, prefer_last ? 7 : 32);
    tamisi_spec_row_free(&spec);
    ck_assert_uint_eq(count_variants(into, "spec_0"), 2);
    ck_assert_uint_eq(count_variants(into, "spec_1"), 4);
    for (int i = 0; i < 8; i++) ck_assert_int_eq(fill_get_source(into, i), FILL_RIGHT); /* content conflicts with none */
    tamis_store_free(into);
}
END_TEST

START_TEST(test_other_variant)
{
    const bool prefer_last = _i == 1;
    struct tamisi_variant variant, *found = NULL;
    const struct tamisi_variant_query query = {.spec = "spec_1", .dtype = -1, .head_dim = -1};
    tamis_store *from, *into;
    size_t count = 0;

    store_make(2);
    from = store_must_open(TAMIS_STORE_WRITE);
    fill_variant(&variant, 1);
    variant.rank = 9;
    store_must(tamisi_store_put_variant(from, &variant));
    tamis_store_free(from);

    into = make_target(0, 2);
    const struct tamisi_merge merge = merge_into(into, prefer_last);
    ck_assert_int_eq(merge.conflicts, 1);
    ck_assert_str_eq(reported_names[0], "variant spec_1 kernel_1");
    ck_assert_int_eq(merge.left_out, prefer_last ? 0 : 1);
    store_must(tamisi_store_find_variants(&found, &count, into, &query));
    ck_assert_uint_eq(count, 1);
    ck_assert_int_eq(found[0].rank, prefer_last ? 9 : 0);
    free(found);
    tamis_store_free(into);
}
END_TEST

/* Of cubins by several compilers both are kept, and what came last is the newest. */
START_TEST(test_compilers)
{
    const struct tamisi_hash source = fill_hash(0);
    struct tamisi_cubin cubin;
    tamis_store *into;

    store_make(1);
    into = open_target();
    store_must(fill_put_cubin(into, 0, "another compiler"));
    ck_assert_int_eq(merge_into(into, false).conflicts, 0);
    store_must(tamisi_store_get_cubin(&cubin, into, &source, FILL_ARCH, FILL_OPTIONS, NULL));
    ck_assert_str_eq(cubin.nvrtc, FILL_NVRTC);
    tamisi_cubin_free(&cubin);
    ck_assert_int_eq(fill_get_cubin(into, 0, "another compiler"), FILL_RIGHT);
    tamis_store_free(into);
}
END_TEST

START_TEST(test_damaged_rows)
{
    struct tamisi_merge merge;
    tamis_store *into;

    store_make(3);
    store_execute("UPDATE source SET text = 'int other;' WHERE id = (SELECT max(id) FROM source)");
    store_execute("UPDATE cubin SET data = zeroblob(100) WHERE id = (SELECT max(id) FROM cubin)");
    into = open_target();
    merge = merge_into(into, false);
    ck_assert_int_eq(merge.damaged, 2);
    ck_assert_int_eq(merge.added, 2 + 3 * 3 - 2);
    ck_assert_int_eq(store_warnings, 2);
    ck_assert(!merge.torn);
    for (int i = 0; i < 3; i++) ck_assert_int_ne(fill_get_source(into, i), FILL_WRONG);
    for (int i = 0; i < 3; i++) ck_assert_int_ne(fill_get_cubin(into, i, FILL_NVRTC), FILL_WRONG);
    for (int i = 0; i < 3; i++) store_must(fill_put(into, i)); /* what is missing can be put */
    for (int i = 0; i < 3; i++) ck_assert_int_eq(fill_get_cubin(into, i, FILL_NVRTC), FILL_RIGHT);
    tamis_store_free(into);
}
END_TEST

TCase *store_merge_case(void)
{
    TCase *merging = tcase_create("merging");

    tcase_add_checked_fixture(merging, store_set_up, store_tear_down);
    tcase_set_timeout(merging, 60);
    tcase_add_test(merging, test_union);
    tcase_add_test(merging, test_transaction);
    tcase_add_test(merging, test_own_file);
    tcase_add_test(merging, test_read_only_target);
    tcase_add_loop_test(merging, test_other_spec, 0, 2);
    tcase_add_loop_test(merging, test_other_variant, 0, 2);
    tcase_add_test(merging, test_compilers);
    tcase_add_test(merging, test_damaged_rows);
    return merging;
}
