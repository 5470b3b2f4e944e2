/*
 * check_store_pattern.c: the block pattern of a stored spec: each kind to the bit, what its text may be, and the column that a
 * file gets with the first of them.
 */
#define _GNU_SOURCE

#include "store_case.h"

#include <locale.h>
#include <math.h>
#include <sqlite3.h>

/* A spec whose row has this text; NULL: none. */
static void put_text(tamis_store *store, const char *name, const char *pattern)
{
    char own_name[32], text[] = "a: 1\n", own_pattern[128];
    struct tamisi_spec_row spec = {own_name, TAMIS_PROBLEM_INIT, 40, NULL, text, pattern != NULL ? own_pattern : NULL};

    snprintf(own_name, sizeof own_name, "%s", name);
    if (pattern != NULL) snprintf(own_pattern, sizeof own_pattern, "%s", pattern);
    store_must(tamisi_store_put_spec(store, &spec));
}

static void put_pattern(tamis_store *store, const char *name, const tamis_pattern *pattern)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;

    tamisi_pattern_write(&text, pattern);
    ck_assert(!text.failed);
    put_text(store, name, text.data);
    tamisi_buf_free(&text);
}

static tamis_pattern get_pattern(tamis_store *store, const char *name)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;

    store_must(tamis_store_pattern(&pattern, store, name));
    return pattern;
}

static void assert_same(const tamis_pattern *a, const tamis_pattern *b)
{
    ck_assert_uint_eq(a->struct_size, b->struct_size);
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_int_eq(a->host_blocks.form, b->host_blocks.form);
    ck_assert_mem_eq(&a->sliding, &b->sliding, sizeof a->sliding);
    ck_assert_int_eq(a->vertical_slash.last_queries, b->vertical_slash.last_queries);
    ck_assert_int_eq(a->vertical_slash.vertical_lines, b->vertical_slash.vertical_lines);
    ck_assert_int_eq(a->vertical_slash.slash_lines, b->vertical_slash.slash_lines);
    ck_assert_mem_eq(&a->vertical_slash.coverage, &b->vertical_slash.coverage, sizeof(double));
    ck_assert_mem_eq(&a->flexprefill, &b->flexprefill, sizeof a->flexprefill);
    ck_assert_int_eq(a->xattention.stride, b->xattention.stride);
    ck_assert_mem_eq(&a->xattention.threshold, &b->xattention.threshold, sizeof(double));
    ck_assert_mem_eq(&a->topk_blocks, &b->topk_blocks, sizeof a->topk_blocks);
}

/* The members of `kind` as no default has them, and reals that few digits do not tell. */
static tamis_pattern make_pattern(tamis_pattern_kind kind)
{
    tamis_pattern pattern = TAMIS_PATTERN_INIT;

    pattern.kind = kind;
    switch (kind) {
    case TAMIS_PATTERN_SLIDING:
        pattern.sliding.sink_tokens = 0;
        pattern.sliding.window_tokens = INT64_MAX;
        break;
    case TAMIS_PATTERN_VERTICAL_SLASH:
        pattern.vertical_slash.last_queries = 1;
        pattern.vertical_slash.vertical_lines = 12345678901;
        pattern.vertical_slash.slash_lines = 0;
        pattern.vertical_slash.coverage = nextafter(0.3, 1);
        break;
    case TAMIS_PATTERN_FLEXPREFILL:
        pattern.flexprefill.gamma = nextafter(0.9, 0);
        pattern.flexprefill.tau = 5e-324;
        pattern.flexprefill.min_tokens = 7;
        pattern.flexprefill.max_tokens = 8;
        break;
    case TAMIS_PATTERN_XATTENTION:
        pattern.xattention.stride = 64;
        pattern.xattention.threshold = 1.0 / 3;
        break;
    case TAMIS_PATTERN_TOPK_BLOCKS:
        pattern.topk_blocks.blocks = 3;
        pattern.topk_blocks.ratio = 1.0 / 7;
        break;
    default:
        break;
    }
    return pattern;
}

START_TEST(test_kinds)
{
    const tamis_pattern wanted = make_pattern((tamis_pattern_kind)_i);
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    tamis_pattern found;

    (void)setlocale(LC_ALL, "de_DE.UTF-8"); /* where there is one: it has another decimal point */
    put_pattern(store, "model", &wanted);
    found = get_pattern(store, "model");
    assert_same(&found, &wanted);
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    found = get_pattern(store, NULL);
    assert_same(&found, &wanted);
    tamis_store_free(store);
}
END_TEST

/* Of a host's own blocks a spec cannot speak, and of none there is nothing to say. */
START_TEST(test_none)
{
    const tamis_pattern none = TAMIS_PATTERN_INIT;
    tamis_pattern out = make_pattern(TAMIS_PATTERN_SLIDING);
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    put_pattern(store, "model", &none);
    out.struct_size = sizeof out + 8; /* a caller of a newer header keeps what it has behind ours */
    store_must(tamis_store_pattern(&out, store, "model"));
    ck_assert_uint_eq(out.struct_size, sizeof out + 8);
    out.struct_size = sizeof out;
    assert_same(&out, &none);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_arguments)
{
    const tamis_pattern sliding = make_pattern(TAMIS_PATTERN_SLIDING), before = make_pattern(TAMIS_PATTERN_XATTENTION);
    tamis_pattern out = before;
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    put_pattern(store, "model", &sliding);
    store_expect(tamis_store_pattern(NULL, store, NULL), TAMIS_EINVAL, "out: is NULL");
    store_expect(tamis_store_pattern(&out, NULL, NULL), TAMIS_EINVAL, "store: is NULL");
    store_expect(tamis_store_pattern(&out, store, "lama"), TAMIS_ENOTFOUND, "it has model");
    out.struct_size = sizeof out - 1;
    store_expect(tamis_store_pattern(&out, store, NULL), TAMIS_EINVAL, "use TAMIS_PATTERN_INIT");
    out.struct_size = sizeof out;
    assert_same(&out, &before); /* after a failure nothing is written */
    store_must(tamis_store_pattern(&out, store, NULL));
    assert_same(&out, &sliding);
    tamis_store_free(store);
}
END_TEST

static const struct {
    const char *text;
    tamis_status status;
} malformed[] = {
    {"0", TAMIS_ECORRUPT},
    {"1", TAMIS_ECORRUPT}, /* a host's own */
    {"x", TAMIS_ECORRUPT},
    {" 2 1 1", TAMIS_ECORRUPT},
    {"-2 1 1", TAMIS_ECORRUPT},
    {"2", TAMIS_ECORRUPT},
    {"2 1", TAMIS_ECORRUPT},
    {"2 1 ", TAMIS_ECORRUPT},
    {"2  1 1", TAMIS_ECORRUPT},
    {"2 -1 1", TAMIS_ECORRUPT},
    {"2 1 1x", TAMIS_ECORRUPT},
    {"2 1 9223372036854775808", TAMIS_ECORRUPT},
    {"3 2147483648 1 1 0000000000000000", TAMIS_ECORRUPT},
    {"5 8 3fe", TAMIS_ECORRUPT},
    {"5 8 3FE0000000000000", TAMIS_ECORRUPT},
    {"5 8 3fe00000000000000", TAMIS_ECORRUPT},
    {"5 8 0.5", TAMIS_ECORRUPT},
    {"99999999999999999999 1", TAMIS_ECORRUPT},
    {"7", TAMIS_EVERSION},
    {"8 1 2 3", TAMIS_EVERSION},
    {"2 1 1 5", TAMIS_EVERSION},
};

START_TEST(test_malformed)
{
    const tamis_pattern before = make_pattern(TAMIS_PATTERN_FLEXPREFILL);
    tamis_pattern out = before;
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    put_text(store, "model", malformed[_i].text);
    store_expect(tamis_store_pattern(&out, store, "model"), malformed[_i].status,
                 malformed[_i].status == TAMIS_EVERSION ? "a newer one would" : malformed[_i].text);
    assert_same(&out, &before);
    store_must(tamis_store_problem(&problem, store, "model")); /* which is no worse for it */
    tamis_store_free(store);
}
END_TEST

/* ---- the file's format */

static int read_format(void)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    int format;

    ck_assert_int_eq(sqlite3_open(store_file, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &statement, NULL), SQLITE_OK);
    ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
    format = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return format;
}

/* The specs of store_make() in either format; whichever handle they are read through. */
static void expect_specs(tamis_store *store)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    int wrong = 0;

    ck_assert_int_eq(get_pattern(store, "spec_0").kind, TAMIS_PATTERN_NONE);
    store_must(tamis_store_problem(&problem, store, "spec_1"));
    ck_assert_int_eq(problem.head_dim, 128);
    ck_assert_int_eq(fill_count_absent(store, 2, &wrong) + wrong, 0);
}

/* A file is upgraded by the first pattern, of any older format, and by nothing before it; who has it open sees that. */
START_TEST(test_upgrade)
{
    const tamis_pattern wanted = make_pattern(TAMIS_PATTERN_FLEXPREFILL);
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    tamis_store *store, *reader;
    tamis_pattern found;

    store_make(2);
    if (_i == 1) store_execute("DROP TABLE timing; PRAGMA user_version=1");
    store = store_must_open(TAMIS_STORE_WRITE);
    reader = store_must_open(TAMIS_STORE_READ);
    put_text(store, "plain", NULL);
    expect_specs(reader);
    ck_assert_int_eq(read_format(), 2 - _i);
    store_must(tamisi_store_begin(store));
    put_pattern(store, "model", &wanted);
    tamisi_store_rollback(store);
    ck_assert_int_eq(read_format(), 2 - _i);
    put_text(store, "plain", NULL);
    put_pattern(store, "model", &wanted);
    ck_assert_int_eq(read_format(), 3);
    found = get_pattern(reader, "model");
    assert_same(&found, &wanted);
    expect_specs(reader);
    tamis_store_free(reader);

    put_text(store, "later", NULL); /* specs without one go on as they were */
    store_must(tamisi_store_compact(store));
    store_must(tamisi_store_check(store, &problem));
    ck_assert_uint_eq(problem.size, 0);
    tamisi_buf_free(&problem);
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    found = get_pattern(store, "model");
    assert_same(&found, &wanted);
    ck_assert_int_eq(get_pattern(store, "later").kind, TAMIS_PATTERN_NONE);
    expect_specs(store);
    ck_assert_int_eq(store_warnings, 0);
    tamis_store_free(store);
}
END_TEST

/* Another pattern, and none, take the place of the one that was there. */
START_TEST(test_replaced)
{
    const tamis_pattern first = make_pattern(TAMIS_PATTERN_XATTENTION);
    tamis_pattern second = first, found;
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    put_pattern(store, "model", &first);
    second.xattention.threshold = nextafter(second.xattention.threshold, 0);
    put_pattern(store, "model", &second);
    found = get_pattern(store, "model");
    assert_same(&found, &second);
    put_text(store, "model", NULL);
    ck_assert_int_eq(get_pattern(store, "model").kind, TAMIS_PATTERN_NONE);
    put_pattern(store, "model", &first);
    found = get_pattern(store, "model");
    assert_same(&found, &first);
    tamis_store_free(store);
}
END_TEST

/* With its spec; to another one's file, which is upgraded; and what differs in the pattern alone is a conflict. */
START_TEST(test_merge)
{
    const tamis_pattern wanted = make_pattern(TAMIS_PATTERN_TOPK_BLOCKS);
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    struct tamisi_merge merge = {.prefer_last = false};
    tamis_store *from, *into;
    tamis_pattern found;

    store_make(2);
    from = store_must_open(TAMIS_STORE_WRITE);
    put_pattern(from, "model", &wanted);
    put_text(from, "plain", NULL);
    options.mode = TAMIS_STORE_CREATE;
    store_must(tamis_store_open(&into, folder_file("b.tamis"), &options));
    put_text(into, "plain", NULL);
    store_must(tamisi_store_merge(into, from, &merge));
    ck_assert_int_eq(merge.kept, 1); /* "plain" is the same row in both formats */
    ck_assert_int_eq(merge.conflicts, 0);
    found = get_pattern(into, "model");
    assert_same(&found, &wanted);
    expect_specs(into);

    put_text(from, "model", NULL);
    merge = (struct tamisi_merge){.prefer_last = false};
    store_must(tamisi_store_merge(into, from, &merge));
    ck_assert_int_eq(merge.conflicts, 1);
    found = get_pattern(into, "model");
    assert_same(&found, &wanted);
    merge = (struct tamisi_merge){.prefer_last = true};
    store_must(tamisi_store_merge(into, from, &merge));
    ck_assert_int_eq(merge.conflicts, 1);
    ck_assert_int_eq(get_pattern(into, "model").kind, TAMIS_PATTERN_NONE);
    tamis_store_free(into);
    tamis_store_free(from);
}
END_TEST

/* A spec is whole or absent: one whose pattern was changed or taken away is not read as one without. */
START_TEST(test_damage)
{
    static const char *const changes[] = {"UPDATE spec SET pattern = NULL WHERE name = 'model'",
                                          "UPDATE spec SET pattern = '2 1 2' WHERE name = 'model'",
                                          "UPDATE spec SET pattern = 5 WHERE name = 'model'",
                                          "UPDATE spec SET pattern = '' WHERE name = 'spec_0'"};
    const tamis_pattern wanted = make_pattern(TAMIS_PATTERN_SLIDING);
    const char *name = strstr(changes[_i], "model") != NULL ? "model" : "spec_0";
    tamis_pattern found = TAMIS_PATTERN_INIT;
    tamis_store *store;

    store_make(1);
    store = store_must_open(TAMIS_STORE_WRITE);
    put_pattern(store, "model", &wanted);
    tamis_store_free(store);
    store_execute(changes[_i]);
    store = store_must_open(TAMIS_STORE_READ);
    store_expect(tamis_store_pattern(&found, store, name), TAMIS_ENOTFOUND, name);
    ck_assert_int_eq(store_warnings, 1);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_foreign_column)
{
    static const struct {
        const char *sql, *text;
    } changes[] = {{"ALTER TABLE spec ADD COLUMN pattern", "not those of format 2"},
                   {"PRAGMA user_version=3", "not those of format 3"},
                   {"ALTER TABLE spec ADD COLUMN pattern TEXT; PRAGMA user_version=3", "not those of format 3"},
                   {"ALTER TABLE spec ADD COLUMN patterns; PRAGMA user_version=3", "not those of format 3"},
                   {"ALTER TABLE cubin ADD COLUMN pattern; PRAGMA user_version=3", "not those of format 3"}};
    tamis_store *store;

    store_make(1);
    store_execute(changes[_i].sql);
    store_expect(store_open(&store, TAMIS_STORE_READ), TAMIS_ECORRUPT, changes[_i].text);
}
END_TEST

TCase *store_pattern_case(void)
{
    TCase *pattern = tcase_create("pattern");

    tcase_add_checked_fixture(pattern, store_set_up, store_tear_down);
    tcase_add_loop_test(pattern, test_kinds, TAMIS_PATTERN_SLIDING, TAMIS_PATTERN_TOPK_BLOCKS + 1);
    tcase_add_test(pattern, test_none);
    tcase_add_test(pattern, test_arguments);
    tcase_add_loop_test(pattern, test_malformed, 0, sizeof malformed / sizeof *malformed);
    tcase_add_loop_test(pattern, test_upgrade, 0, 2);
    tcase_add_test(pattern, test_replaced);
    tcase_add_test(pattern, test_merge);
    tcase_add_loop_test(pattern, test_damage, 0, 4);
    tcase_add_loop_test(pattern, test_foreign_column, 0, 5);
    return pattern;
}
