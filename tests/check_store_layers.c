/*
 * check_store_layers.c: the sparse layers of a stored spec as numbers: sizes asked first, what the text may be, what not.
 */
#define _GNU_SOURCE

#include "store_case.h"

/* A store whose spec "model" has this text as its sparse layers. */
static tamis_store *open_with(const char *layers)
{
    char name[] = "model", text[] = "a: 1\n", sparse[64];
    struct tamisi_spec_row spec = {name, TAMIS_PROBLEM_INIT, 40, sparse, text, NULL};
    tamis_store *store = store_must_open(TAMIS_STORE_CREATE);

    snprintf(sparse, sizeof sparse, "%s", layers);
    store_must(tamisi_store_put_spec(store, &spec));
    return store;
}

START_TEST(test_sizes_first)
{
    tamis_store *store = open_with("14,15,20-37");
    int32_t layers = -1, sparse[21];
    size_t needed = 99;

    for (int i = 0; i < 21; i++) sparse[i] = -1;
    store_must(tamis_store_layers(&layers, NULL, 0, &needed, store, "model"));
    ck_assert_int_eq(layers, 40);
    ck_assert_uint_eq(needed, 20);
    store_must(tamis_store_layers(&layers, sparse, 3, NULL, store, NULL)); /* what fits */
    ck_assert_int_eq(sparse[2], 20);
    ck_assert_int_eq(sparse[3], -1);
    store_must(tamis_store_layers(&layers, sparse, 21, &needed, store, NULL));
    ck_assert_uint_eq(needed, 20);
    ck_assert_int_eq(sparse[0], 14);
    ck_assert_int_eq(sparse[1], 15);
    for (int i = 2; i < 20; i++) ck_assert_int_eq(sparse[i], 18 + i);
    ck_assert_int_eq(sparse[20], -1);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_none_named)
{
    tamis_store *store = open_with("");
    int32_t layers, sparse[1] = {-1};
    size_t needed = 99;

    store_must(tamis_store_layers(&layers, sparse, 1, &needed, store, "model"));
    ck_assert_int_eq(layers, 40);
    ck_assert_uint_eq(needed, 0);
    ck_assert_int_eq(sparse[0], -1);
    tamis_store_free(store);
}
END_TEST

START_TEST(test_arguments)
{
    tamis_store *store = open_with("3");
    int32_t layers = -1, sparse[1] = {-1};
    size_t needed = 99;

    store_expect(tamis_store_layers(NULL, sparse, 1, &needed, store, NULL), TAMIS_EINVAL, "layers: is NULL");
    store_expect(tamis_store_layers(&layers, NULL, 1, &needed, store, NULL), TAMIS_EINVAL, "sparse: is NULL");
    store_expect(tamis_store_layers(&layers, sparse, 1, &needed, NULL, NULL), TAMIS_EINVAL, "store: is NULL");
    store_expect(tamis_store_layers(&layers, sparse, 1, &needed, store, "lama"), TAMIS_ENOTFOUND, "it has model");
    ck_assert_int_eq(layers, -1); /* after a failure nothing is written */
    ck_assert_int_eq(sparse[0], -1);
    ck_assert_uint_eq(needed, 99);
    store_must(tamis_store_layers(&layers, sparse, 1, &needed, store, NULL));
    ck_assert_int_eq(sparse[0], 3);
    tamis_store_free(store);
}
END_TEST

static const char *const malformed[] = {",",   "1,",  "1,,2", "-1",  "1-",    "5-4",  "4,4",   "4-6,5", "1 ,2",
                                        "one", "1;2", "1-2-3", "1024", "99999", "1-99999999999", "0x1", "5,4",  " 1"};

START_TEST(test_malformed)
{
    tamis_store *store = open_with(malformed[_i]);
    int32_t layers = -1, sparse[2] = {-1, -1};
    size_t needed = 99;

    store_expect(tamis_store_layers(&layers, sparse, 2, &needed, store, NULL), TAMIS_ECORRUPT, malformed[_i]);
    ck_assert_int_eq(layers, -1);
    ck_assert_int_eq(sparse[0], -1);
    ck_assert_uint_eq(needed, 99);
    tamis_store_free(store);
}
END_TEST

TCase *store_layers_case(void)
{
    TCase *layers = tcase_create("layers");

    tcase_add_checked_fixture(layers, store_set_up, store_tear_down);
    tcase_add_test(layers, test_sizes_first);
    tcase_add_test(layers, test_none_named);
    tcase_add_test(layers, test_arguments);
    tcase_add_loop_test(layers, test_malformed, 0, sizeof malformed / sizeof *malformed);
    return layers;
}
