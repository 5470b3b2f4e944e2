/* check_export.c: the pieces of C text that tamis export --c writes. Pure: nothing is opened. */
#include "export.h"

#include <check.h>
#include <string.h>

Suite *export_suite(void);

static void expect(struct tamisi_buf *found, const char *wanted)
{
    ck_assert(!found->failed);
    ck_assert_str_eq(found->data, wanted);
    tamisi_buf_free(found);
}

START_TEST(words)
{
    static const unsigned char bytes[] = {1, 2, 3, 4, 5, 6, 7, 0x88, 0xff, 0, 0x10};
    struct tamisi_buf text = TAMISI_BUF_INIT;

    export_words(&text, "name", bytes, 8);
    expect(&text, "const unsigned long long name[1] = {\n    0x8807060504030201,\n};\n");
    export_words(&text, "name", bytes, 1);
    expect(&text, "const unsigned long long name[1] = {\n    0x1,\n};\n");
    export_words(&text, "name", bytes, 11); /* filled up with zeros */
    expect(&text, "const unsigned long long name[2] = {\n    0x8807060504030201, 0x1000ff,\n};\n");
}
END_TEST

/* Five words a line. */
START_TEST(long_array)
{
    static const unsigned char bytes[48] = {0};
    struct tamisi_buf text = TAMISI_BUF_INIT;

    export_words(&text, "name", bytes, sizeof bytes);
    expect(&text, "const unsigned long long name[6] = {\n    0x0, 0x0, 0x0, 0x0, 0x0,\n    0x0,\n};\n");
}
END_TEST

static const struct {
    const char *text, *wanted;
} literals[] = {{"", "\"\""},
                {"sm_90a", "\"sm_90a\""},
                {"a\"b\\c", "\"a\\042b\\134c\""},
                {"?\?=", "\"\\077\\077=\""}, /* no trigraph */
                {"\n1\x7f", "\"\\0121\\177\""},
                {"\xc3\xa9", "\"\\303\\251\""}};

START_TEST(literal)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;

    export_literal(&text, literals[_i].text);
    expect(&text, literals[_i].wanted);
}
END_TEST

static const struct {
    const char *text, *wanted;
} renamings[] = {{"", ""},
                 {"int tamis_kernels_open(void); /* TAMIS_KERNELS_H */", "int my_1_open(void); /* MY_1_H */"},
                 {"TAMIS_KERNEL_ABI tamis_rows tTtamis_kernels", "TAMIS_KERNEL_ABI tamis_rows tTmy_1"},
                 {"tamis_kernel", "tamis_kernel"},
                 {"tamis_kernelstamis_kernels", "my_1my_1"}};

START_TEST(renaming)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;

    tamisi_buf_puts(&text, "");
    export_rename(&text, renamings[_i].text, "my_1");
    expect(&text, renamings[_i].wanted);
}
END_TEST

START_TEST(prefixes)
{
    static const char *const fine[] = {"a", "my_kernels", "k9", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const bad[] = {"", "_a", "9k", "My", "a-b", "a b", "a.c", "../a", "\xc3\xa9",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) ck_assert_msg(export_prefix_is_fine(fine[i]), "%s", fine[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(!export_prefix_is_fine(bad[i]), "%s", bad[i]);
}
END_TEST

Suite *export_suite(void)
{
    Suite *suite = suite_create("export");
    TCase *text = tcase_create("text");

    tcase_add_test(text, words);
    tcase_add_test(text, long_array);
    tcase_add_loop_test(text, literal, 0, (int)(sizeof literals / sizeof *literals));
    tcase_add_loop_test(text, renaming, 0, (int)(sizeof renamings / sizeof *renamings));
    tcase_add_test(text, prefixes);
    suite_add_tcase(suite, text);
    return suite;
}
