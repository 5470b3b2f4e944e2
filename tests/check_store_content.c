/*
 * check_store_content.c: what is put comes back: specs, sources, variants and cubins; transactions and threads; upkeep.
 */
#define _GNU_SOURCE

#include "store_case.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------------------- round trips */

START_TEST(test_round_trip)
{
    tamis_store *store;
    int wrong = 0;

    store_make(12);
    store_make(12); /* putting what is there is no error */
    store = store_must_open(TAMIS_STORE_READ);
    ck_assert_int_eq(fill_count_absent(store, 12, &wrong), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(fill_count_absent(store, 13, &wrong), 3);
    ck_assert_int_eq(store_warnings, 0);
    ck_assert_str_eq(tamisi_store_path(store), store_file);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_problem)
{
    struct {
        tamis_problem problem;
        char guard[16];
    } out = {TAMIS_PROBLEM_INIT, "untouched"};
    tamis_store *store;

    store_make(1);
    store = store_must_open(TAMIS_STORE_READ);
    store_expect(tamis_store_problem(NULL, store, NULL), TAMIS_EINVAL, "out: is NULL");
    store_expect(tamis_store_problem(&out.problem, NULL, NULL), TAMIS_EINVAL, "store: is NULL");
    store_expect(tamis_store_problem(&out.problem, store, NULL), TAMIS_ENOTFOUND, "so name one: spec_0, spec_1");
    store_expect(tamis_store_problem(&out.problem, store, "lama"), TAMIS_ENOTFOUND, "\"lama\"; it has spec_0, spec_1");
    out.problem.struct_size = offsetof(tamis_problem, mask) - 8;
    store_expect(tamis_store_problem(&out.problem, store, "spec_1"), TAMIS_EINVAL, "struct_size");
    ck_assert_int_eq(out.problem.q_heads, 0);
    out.problem.struct_size = offsetof(tamis_problem, mask); /* the struct's first version */
    out.problem.mask = TAMIS_FULL;
    store_must(tamis_store_problem(&out.problem, store, "spec_1"));
    ck_assert_int_eq(out.problem.q_heads, 32);
    ck_assert_int_eq(out.problem.mask, TAMIS_FULL);
    out.problem.struct_size = sizeof out;
    store_must(tamis_store_problem(&out.problem, store, "spec_1"));
    ck_assert_str_eq(tamis_last_error(), "");
    ck_assert_uint_eq(out.problem.struct_size, sizeof out);
    ck_assert_str_eq(out.guard, "untouched");
    ck_assert_int_eq(out.problem.batch, 1);
    ck_assert_int_eq(out.problem.seq_len, 0);
    ck_assert_int_eq(out.problem.mask, TAMIS_CAUSAL);
    ck_assert_int_eq(out.problem.q_heads, 32);
    ck_assert_int_eq(out.problem.kv_heads, 8);
    ck_assert_int_eq(out.problem.head_dim, 128);
    ck_assert_int_eq(out.problem.selection.policy, TAMIS_COVERAGE);
    ck_assert_int_eq(out.problem.selection.window, 128);
    ck_assert_int_eq(out.problem.selection.min_tokens, 1024);
    ck_assert_double_eq(out.problem.selection.coverage, 0.005);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_spec)
{
    char name[] = "one", text[] = "a: 1\n";
    struct tamisi_spec_row spec = {name, TAMIS_PROBLEM_INIT, 32, NULL, text, NULL}, found;
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    store_expect(tamisi_store_get_spec(&found, store, NULL), TAMIS_ENOTFOUND, "has no spec");
    store_must(tamisi_store_put_spec(store, &spec));
    spec.layers = 40; /* a spec of the same name takes the other's place */
    spec.problem.scale = -0.0;
    store_must(tamisi_store_put_spec(store, &spec));
    store_must(tamisi_store_get_spec(&found, store, NULL));
    ck_assert_str_eq(found.name, "one");
    ck_assert_str_eq(found.text, "a: 1\n");
    ck_assert_str_eq(found.sparse_layers, "");
    ck_assert_int_eq(found.layers, 40);
    tamisi_spec_row_free(&found);
    spec.problem.scale = 0.0 / 0.0;
    store_expect(tamisi_store_put_spec(store, &spec), TAMIS_EINVAL, "must be finite");
    spec.problem = (tamis_problem)TAMIS_PROBLEM_INIT;
    spec.problem.selection.scope = (tamis_scope)9;
    store_expect(tamisi_store_put_spec(store, &spec), TAMIS_EINVAL, "scope is none");
    spec.name = NULL;
    store_expect(tamisi_store_put_spec(store, &spec), TAMIS_EINVAL, "no name");
    tamis_store_free(store);
}
END_TEST

/* Kernels 0..5: specs 0 1 0 1 0 1, families attend score score attend score score, dtypes 0 1.., head dims 64 128... */
static const struct {
    struct tamisi_variant_query query;
    const char *names; /* in order */
} queries[] = {
    {{NULL, NULL, NULL, -1, -1}, "kernel_0 kernel_1 kernel_2 kernel_3 kernel_4 kernel_5 any "},
    {{"spec_0", NULL, NULL, -1, -1}, "kernel_0 kernel_2 kernel_4 any "},
    {{NULL, "attend", FILL_ARCH, -1, -1}, "kernel_0 kernel_3 "},
    {{NULL, "score", FILL_ARCH, 1, -1}, "kernel_1 kernel_5 any "},
    {{NULL, "score", FILL_ARCH, -1, 64}, "kernel_2 kernel_4 any "},
    {{NULL, "score", "sm_90a", -1, -1}, ""},
    {{"spec_1", NULL, FILL_ARCH, 0, 64}, ""},
};

static void put_any(tamis_store *store)
{
    struct tamisi_variant any;

    fill_variant(&any, 4);
    snprintf(any.name, sizeof any.name, "any");
    any.dtype = TAMISI_ANY;
    any.head_dim = 0;
    any.rank = 7;
    store_must(tamisi_store_put_variant(store, &any));
}

START_TEST(test_query)
{
    struct tamisi_variant *variants = NULL;
    struct tamisi_buf names = TAMISI_BUF_INIT;
    tamis_store *store;
    size_t count = 99;

    store_make(6);
    store = store_must_open(TAMIS_STORE_WRITE);
    put_any(store);
    store_must(tamisi_store_find_variants(&variants, &count, store, &queries[_i].query));
    tamisi_buf_puts(&names, "");
    for (size_t v = 0; v < count; v++) tamisi_buf_printf(&names, "%s ", variants[v].name);
    ck_assert_str_eq(names.data, queries[_i].names);
    tamisi_buf_free(&names);
    free(variants);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_variant_changes)
{
    struct tamisi_variant variant, *found = NULL;
    struct tamisi_variant_query query = {NULL, NULL, NULL, -1, -1};
    tamis_store *store;
    size_t count;

    store_make(4);
    store = store_must_open(TAMIS_STORE_WRITE);
    fill_variant(&variant, 1);
    variant.rank = -3;
    store_must(tamisi_store_put_variant(store, &variant));
    store_must(tamisi_store_drop_variants(store, "spec_0", FILL_ARCH));
    store_must(tamisi_store_drop_variants(store, "spec_1", "sm_90a"));
    store_must(tamisi_store_find_variants(&found, &count, store, &query));
    ck_assert_uint_eq(count, 2);
    ck_assert(memcmp(&found[0], &variant, sizeof variant) == 0);
    ck_assert_str_eq(found[1].name, "kernel_3");
    free(found);

    variant.entry_count = 0;
    store_expect(tamisi_store_put_variant(store, &variant), TAMIS_EINVAL, "entries");
    fill_variant(&variant, 1);
    snprintf(variant.entries[0].symbol, sizeof variant.entries[0].symbol, "two words");
    store_expect(tamisi_store_put_variant(store, &variant), TAMIS_EINVAL, "blank");
    fill_variant(&variant, 1);
    memset(variant.params, 'x', sizeof variant.params);
    store_expect(tamisi_store_put_variant(store, &variant), TAMIS_EINVAL, "too long");
    tamis_store_free(store);
}
END_TEST

START_TEST(test_cubin_of_compilers)
{
    char long_name[128] = "";
    struct tamisi_hash hash = fill_hash(2);
    struct tamisi_compiled empty = {.cubin = NULL};
    struct tamisi_cubin cubin;
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    store_must(fill_put_cubin(store, 2, "B"));
    store_must(fill_put_cubin(store, 2, "A"));
    store_must(fill_put_cubin(store, 2, "B")); /* there already: A stays the newest */
    store_must(tamisi_store_get_cubin(&cubin, store, &hash, FILL_ARCH, FILL_OPTIONS, NULL));
    ck_assert_str_eq(cubin.nvrtc, "A");
    tamisi_cubin_free(&cubin);
    ck_assert_int_eq(fill_get_cubin(store, 2, "A"), FILL_RIGHT);
    ck_assert_int_eq(fill_get_cubin(store, 2, "B"), FILL_RIGHT);
    ck_assert_int_eq(fill_get_cubin(store, 2, "C"), FILL_ABSENT);
    store_expect(tamisi_store_get_cubin(&cubin, store, &hash, "sm_90a", FILL_OPTIONS, NULL), TAMIS_ENOTFOUND, "for sm_90a");
    store_expect(tamisi_store_get_cubin(&cubin, store, &hash, FILL_ARCH, "-G\n", NULL), TAMIS_ENOTFOUND, "has no cubin");
    store_expect(tamisi_store_put_cubin(store, &hash, FILL_ARCH, "", "A", &empty), TAMIS_EINVAL, "is empty");
    memset(long_name, 'n', sizeof long_name - 1);
    store_expect(fill_put_cubin(store, 2, long_name), TAMIS_EINVAL, "identity is too long");
    tamis_store_free(store);
}
END_TEST

/* --------------------------------------------------------------------------------------- transactions and threads */

START_TEST(test_transactions)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE), *other = store_must_open(TAMIS_STORE_READ);

    store_must(tamisi_store_begin(store));
    store_expect(tamisi_store_begin(store), TAMIS_EINVAL, "open already");
    store_must(fill_put(store, 0));
    ck_assert_int_eq(fill_get_source(store, 0), FILL_RIGHT);
    ck_assert_int_eq(fill_get_source(other, 0), FILL_ABSENT);
    tamisi_store_rollback(store);
    ck_assert_int_eq(fill_get_source(store, 0), FILL_ABSENT);
    tamisi_store_rollback(store);
    store_expect(tamisi_store_commit(store), TAMIS_EINVAL, "no transaction");
    store_must(tamisi_store_begin(store));
    store_must(fill_put(store, 0));
    store_must(tamisi_store_commit(store));
    ck_assert_int_eq(fill_get_source(other, 0), FILL_RIGHT);
    store_must(tamisi_store_begin(store));
    store_must(fill_put(store, 1));
    tamis_store_free(store); /* rolls back */
    ck_assert_int_eq(fill_get_source(other, 1), FILL_ABSENT);
    tamis_store_free(other);
}
END_TEST

static void *thread_fill(void *payload)
{
    tamis_store *store = payload;
    intptr_t failures = 0;

    for (int i = 0; i < 8; i++) {
        failures += tamisi_store_begin(store) != TAMIS_OK;
        failures += fill_put(store, i) != TAMIS_OK;
        failures += tamisi_store_commit(store) != TAMIS_OK;
        failures += fill_get_cubin(store, i, FILL_NVRTC) != FILL_RIGHT;
    }
    return (void *)failures;
}

START_TEST(test_threads)
{
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);
    pthread_t threads[4];
    int wrong = 0;

    for (int t = 0; t < 4; t++) ck_assert_int_eq(pthread_create(&threads[t], NULL, thread_fill, store), 0);
    for (int t = 0; t < 4; t++) {
        void *failures;

        pthread_join(threads[t], &failures);
        ck_assert_ptr_null(failures);
    }
    ck_assert_int_eq(fill_count_absent(store, 8, &wrong) + wrong, 0);
    tamis_store_free(store);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- upkeep */

struct tally {
    struct tamisi_buf kinds; /* first letters, in order */
    long long bytes;
    int damaged;
    int limit; /* stop after so many */
};

static int tally_item(void *payload, const struct tamisi_store_item *item)
{
    struct tally *tally = payload;
    bool is_spec = strcmp(item->kind, "spec") == 0, is_source = strcmp(item->kind, "source") == 0;

    tamisi_buf_append(&tally->kinds, item->kind, 1);
    tally->bytes += item->bytes;
    tally->damaged += !item->intact;
    if (item->intact) {
        ck_assert_str_ne(item->name, "");
        ck_assert_uint_eq(strlen(item->key), is_spec ? 0 : 32);
        ck_assert_str_eq(item->arch, is_spec || is_source ? "" : FILL_ARCH);
    }
    return (int)tally->kinds.size == tally->limit;
}

static void check_visit(tamis_store *store, const char *kinds, int damaged)
{
    struct tally tally = {TAMISI_BUF_INIT, 0, 0, 0};

    tamisi_buf_puts(&tally.kinds, "");
    store_must(tamisi_store_visit(store, tally_item, &tally));
    ck_assert_str_eq(tally.kinds.data, kinds);
    ck_assert_int_eq(tally.damaged, damaged);
    ck_assert_int_gt(tally.bytes, 0);
    tamisi_buf_free(&tally.kinds);
}

static int name_item(void *payload, const struct tamisi_store_item *item)
{
    tamisi_buf_printf(payload, "%s %s %s %s\n", item->kind, item->name, item->key, item->arch);
    return 0;
}

START_TEST(test_visit)
{
    struct tally tally = {TAMISI_BUF_INIT, 0, 0, 4};
    struct tamisi_buf first = TAMISI_BUF_INIT, second = TAMISI_BUF_INIT;
    tamis_store *store;

    store_make(3);
    store = store_must_open(TAMIS_STORE_READ);
    check_visit(store, "sssssvvvccc", 0);
    store_must(tamisi_store_visit(store, tally_item, &tally));
    ck_assert_uint_eq(tally.kinds.size, 4);
    tamisi_buf_free(&tally.kinds);
    store_must(tamisi_store_visit(store, name_item, &first));
    tamis_store_free(store);

    /* The same puts make the same keys. */
    unlink(store_file);
    store_make(3);
    store = store_must_open(TAMIS_STORE_READ);
    store_must(tamisi_store_visit(store, name_item, &second));
    ck_assert_str_eq(first.data, second.data);
    ck_assert_ptr_nonnull(strstr(first.data, "cubin kernel_2 "));
    tamisi_buf_free(&first);
    tamisi_buf_free(&second);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_gc)
{
    struct tamisi_store_gc_result result = {-1, -1};
    struct tamisi_buf problem = TAMISI_BUF_INIT;
    struct stat before, after;
    tamis_store *store;
    int wrong = 0;

    store_make(8);
    store = store_must_open(TAMIS_STORE_WRITE);
    store_must(tamisi_store_drop_variants(store, "spec_0", FILL_ARCH));
    store_must(fill_put_cubin(store, 1, "another compiler"));
    stat(store_file, &before);
    store_must(tamisi_store_gc(store, &result));
    stat(store_file, &after);
    ck_assert_int_eq(result.removed, 8); /* sources and cubins of four variants */
    ck_assert_int_eq(result.freed_bytes, before.st_size - after.st_size);
    ck_assert_int_gt(result.freed_bytes, 0);
    ck_assert_int_eq(fill_count_absent(store, 8, &wrong), 12);
    ck_assert_int_eq(fill_get_cubin(store, 1, "another compiler"), FILL_RIGHT);
    store_must(tamisi_store_check(store, &problem));
    ck_assert_str_eq(problem.data, "");
    store_must(tamisi_store_gc(store, &result));
    ck_assert_int_eq(result.removed, 0);
    store_must(tamisi_store_begin(store));
    store_expect(tamisi_store_gc(store, &result), TAMIS_EINVAL, "transaction");
    tamis_store_free(store);
    store = store_must_open(TAMIS_STORE_READ);
    store_expect(tamisi_store_gc(store, &result), TAMIS_EUNSUPPORTED, "read-only");
    tamis_store_free(store);
    tamisi_buf_free(&problem);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* A cache has cubins without variants: garbage there is what is damaged, and that only. */
START_TEST(test_gc_of_a_cache)
{
    struct tamisi_store_gc_result result = {-1, -1};
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    for (int i = 0; i < 4; i++) store_must(fill_put_cubin(store, i, FILL_NVRTC));
    store_execute("UPDATE cubin SET data = zeroblob(100) WHERE nvrtc IS NOT NULL AND resources LIKE 'kernel_2 %'");
    check_visit(store, "cccc", 1);
    store_must(tamisi_store_gc(store, &result));
    ck_assert_int_eq(result.removed, 1);
    check_visit(store, "ccc", 0);
    tamis_store_free(store);
}
END_TEST

static const struct {
    const char *own, *user, *home, *path; /* path behind the test's folder, NULL: none */
} caches[] = {
    {"/own", "/user", "/home", "/own/cache.tamis"},
    {NULL, "/user", "/home", "/user/tamis/cache.tamis"},
    {NULL, NULL, "/home", "/home/.cache/tamis/cache.tamis"},
    {"", "", "/home", "/home/.cache/tamis/cache.tamis"},
    {NULL, NULL, NULL, NULL},
};

static void set_variable(const char *name, const char *value)
{
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s%s", value != NULL && *value != '\0' ? folder : "", value != NULL ? value : "");
    if (value != NULL) setenv(name, path, 1);
    else unsetenv(name);
}

START_TEST(test_cache_path)
{
    struct tamisi_buf path = TAMISI_BUF_INIT;
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = NULL;

    set_variable("TAMIS_CACHE_DIR", caches[_i].own);
    set_variable("XDG_CACHE_HOME", caches[_i].user);
    set_variable("HOME", caches[_i].home);
    options.mode = TAMIS_STORE_CREATE;
    if (caches[_i].path == NULL) {
        store_expect(tamis_store_open(&store, NULL, &options), TAMIS_ENOTFOUND, "no place for the cache");
        store_expect(tamisi_store_cache_path(&path), TAMIS_ENOTFOUND, "HOME");
    } else {
        snprintf(store_file, sizeof store_file, "%s%s", folder, caches[_i].path);
        store_expect(tamis_store_open(&store, NULL, NULL), TAMIS_ENOTFOUND, store_file);
        store_must(tamis_store_open(&store, NULL, &options));
        store_must(tamisi_store_cache_path(&path));
        ck_assert_str_eq(path.data, store_file);
        ck_assert_str_eq(tamisi_store_path(store), store_file);
        ck_assert_int_eq(access(store_file, R_OK | W_OK), 0);
        tamis_store_free(store);
    }
    tamisi_buf_free(&path);
}
END_TEST

START_TEST(test_cache_in_a_file)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store = NULL;

    store_make(0);
    setenv("TAMIS_CACHE_DIR", store_file, 1);
    options.mode = TAMIS_STORE_CREATE;
    store_expect(tamis_store_open(&store, NULL, &options), TAMIS_EIO, "Not a directory");
    set_variable("TAMIS_CACHE_DIR", "/a.tamis/below");
    store_expect(tamis_store_open(&store, NULL, &options), TAMIS_EIO, "cannot make the folder");
    ck_assert_ptr_null(store);
}
END_TEST

TCase *store_content_case(void)
{
    TCase *content = tcase_create("content");

    tcase_add_checked_fixture(content, store_set_up, store_tear_down);
    tcase_set_timeout(content, 60);
    tcase_add_test(content, test_round_trip);
    tcase_add_test(content, test_problem);
    tcase_add_test(content, test_spec);
    tcase_add_loop_test(content, test_query, 0, sizeof queries / sizeof *queries);
    tcase_add_test(content, test_variant_changes);
    tcase_add_test(content, test_cubin_of_compilers);
    tcase_add_test(content, test_transactions);
    tcase_add_test(content, test_threads);
    tcase_add_test(content, test_visit);
    tcase_add_test(content, test_gc);
    tcase_add_test(content, test_gc_of_a_cache);
    tcase_add_loop_test(content, test_cache_path, 0, sizeof caches / sizeof *caches);
    tcase_add_test(content, test_cache_in_a_file);
    return content;
}
