/*
 * check_npy.c: .npy files written and read back, and headers that lie, each with the message that it must get.
 */
#define _GNU_SOURCE
#include "folder.h"
#include "npy.h"

#include <check.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

Suite *npy_suite(void);

static char file[PATH_MAX];

static void set_up(void)
{
    folder_make("npy");
    snprintf(file, sizeof file, "%s", folder_file("q.npy"));
}

static void tear_down(void)
{
    unlink(file);
    ck_assert_int_eq(rmdir(folder), 0); /* so also: no temporary file is left behind */
}

/* ---- parsing */

struct image {
    unsigned char bytes[8192];
    size_t size;
};

/* A version 1.0 file of this header text, which is not padded, and so many bytes of data: 0, 1, 2, ... */
static struct image make_image(const char *header, size_t data)
{
    struct image image = {.size = 0};
    const size_t length = strlen(header);
    ck_assert_uint_lt(10 + length + data, sizeof image.bytes);
    memcpy(image.bytes, "\x93NUMPY\x01", 8);
    image.bytes[8] = (unsigned char)(length & 0xff);
    image.bytes[9] = (unsigned char)(length >> 8);
    memcpy(image.bytes + 10, header, length);
    for (size_t i = 0; i < data; i++) image.bytes[10 + length + i] = (unsigned char)i;
    image.size = 10 + length + data;
    return image;
}

#define MEMBERS(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"
#define SHAPE(shape) MEMBERS("'<u2'", "False", shape)
#define TYPES "little-endian uint16, float16, float32, int32 or float64 would be right"
#define INTEGERS "non-negative integers in parentheses would be right"
#define DICTIONARY "{'descr': ..., 'fortran_order': False, 'shape': (...)} would be right"

static const struct {
    const char *header;
    size_t data;
    const char *message; /* behind "q.npy: "; NULL: good */
} headers[] = {
    {SHAPE("(2, 3)"), 12, NULL},
    {SHAPE("()"), 2, NULL},
    {SHAPE("(3,)"), 6, NULL},
    {SHAPE("(0, 7)"), 0, NULL},
    {SHAPE("(1, 1, 1, 1, 1, 3)"), 6, NULL},
    {"{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<u2\"}", 12, NULL},
    {"  { 'shape' : ( 2 , 3 , ) ,\n'fortran_order' : False , 'descr' : '<u2' }  \n", 12, NULL},
    {MEMBERS("'<f8'", "False", "(2,)"), 16, NULL},

    {SHAPE("(2, 3)"), 11, "11 bytes of data, 12 would be right by its shape"},
    {SHAPE("(2, 3)"), 0, "0 bytes of data, 12 would be right by its shape"},
    {SHAPE("(2, 3)"), 13, "13 bytes of data, 12 would be right by its shape"},
    {SHAPE("(0, 7)"), 1, "1 bytes of data, 0 would be right by its shape"},
    {MEMBERS("'>u2'", "False", "(2,)"), 4, "its descr is '>u2' (big-endian), " TYPES},
    {MEMBERS("'|u1'", "False", "(2,)"), 2, "its descr is '|u1', " TYPES},
    {MEMBERS("'|O'", "False", "(2,)"), 16, "its descr is '|O', " TYPES},
    {MEMBERS("'<c16'", "False", "(2,)"), 32, "its descr is '<c16', " TYPES},
    {MEMBERS("''", "False", "(2,)"), 4, "its descr is '', " TYPES},
    {MEMBERS("[('a', '<u2')]", "False", "(2,)"), 4, "its descr is not a simple type, " TYPES},
    {MEMBERS("'<u2\\n'", "False", "(2,)"), 4, "its descr is not a simple type, " TYPES},
    {MEMBERS("'<u2222222222222222222'", "False", "(2,)"), 4, "its descr is not a simple type, " TYPES},
    {MEMBERS("'<u2'", "True", "(2, 3)"), 12, "it is in Fortran order, C order would be right"},
    {MEMBERS("'<u2'", "0", "(2, 3)"), 12, "its fortran_order is neither True nor False, False would be right"},
    {SHAPE("(-2, 3)"), 12, "its shape has a negative dimension, " INTEGERS},
    {SHAPE("(2, -9223372036854775808)"), 12, "its shape has a negative dimension, " INTEGERS},
    {SHAPE("(99999999999999999999, 1)"), 12,
     "its shape has a dimension past 2^63, one that matches the file's size would be right"},
    {SHAPE("(4294967296, 4294967296)"), 12, "its shape overflows, one that matches the file's size would be right"},
    {SHAPE("(9223372036854775807, 2)"), 12, "its shape overflows, one that matches the file's size would be right"},
    {SHAPE("(4611686018427387904,)"), 0, "its shape overflows, one that matches the file's size would be right"},
    {SHAPE("(1000000000000,)"), 12, "12 bytes of data, 2000000000000 would be right by its shape"},
    {SHAPE("(1, 1, 1, 1, 1, 1, 3)"), 6, "its shape has more than 6 dimensions, at most 6 would be right"},
    {SHAPE("(2.0, 3)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("(2 3)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("(2,, 3)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("(,)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("(6)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("[2, 3]"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("6"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("((2, 3))"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {SHAPE("(0x2, 3)"), 12, "its shape is not a tuple of integers, " INTEGERS},
    {"{'fortran_order': False, 'shape': (2,)}\n", 4, "its header lacks 'descr', " DICTIONARY},
    {"{'descr': '<u2', 'shape': (2,)}\n", 4, "its header lacks 'fortran_order', " DICTIONARY},
    {"{'descr': '<u2', 'fortran_order': False}\n", 4, "its header lacks 'shape', " DICTIONARY},
    {"{}\n", 4, "its header lacks 'descr', " DICTIONARY},
    {"{'descr': '<u2', 'descr': '<f4'}\n", 4, "its header has 'descr' twice, once would be right"},
    {"{'shapes': (2,)}\n", 4, "its header has the unknown key 'shapes', descr, fortran_order and shape would be right"},
    {"{'descr': '<u2', 'fortran_order': False, 'shape': (2,)", 4, "its header does not end, " DICTIONARY},
    {"{'descr': '<u2' 'shape': (2,)}", 4, "its header does not end, " DICTIONARY},
    {"{'descr': '<u2", 4, "its descr is not a simple type, " TYPES},
    {"{'descr'", 4, "its header is not a dictionary, " DICTIONARY},
    {"{descr: '<u2'}\n", 4, "its header is not a dictionary, " DICTIONARY},
    {"{{{{{{{{{{{{{{{{{{{{{{{{", 4, "its header is not a dictionary, " DICTIONARY},
    {"", 4, "its header is not a dictionary, " DICTIONARY},
    {SHAPE("(2,)") "x", 4, "its header goes on after the dictionary, " DICTIONARY},
};

START_TEST(header)
{
    const struct image image = make_image(headers[_i].header, headers[_i].data);
    struct npy npy = {.rank = -7};
    char message[512];
    const tamis_status status = npy_parse(&npy, "q.npy", image.bytes, image.size);
    if (headers[_i].message) {
        snprintf(message, sizeof message, "q.npy: %s", headers[_i].message);
        ck_assert_int_eq(status, TAMIS_EINVAL);
        ck_assert_str_eq(tamis_last_error(), message);
        ck_assert_int_eq(npy.rank, -7); /* left as it was */
        return;
    }
    ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_uint_eq(npy.bytes, headers[_i].data);
    ck_assert_uint_eq((uintptr_t)npy.data % 64, 0);
    ck_assert(npy.bytes == 0 || memcmp(npy.data, image.bytes + image.size - npy.bytes, npy.bytes) == 0);
    npy_free(&npy);
}
END_TEST

/* Every beginning of a good file is a bad one, and none reads past its end. */
START_TEST(every_truncation)
{
    const struct image image = make_image(SHAPE("(2, 3)"), 12);
    for (size_t size = 0; size < image.size; size++) {
        struct npy npy;
        unsigned char *exact = malloc(size + 1); /* so that sanitizers see the end */
        ck_assert_ptr_nonnull(exact);
        memcpy(exact + 1, image.bytes, size);
        ck_assert_int_eq(npy_parse(&npy, "q.npy", exact + 1, size), TAMIS_EINVAL);
        const char *const expected = size < 10                ? "q.npy: not an .npy file, "
                                     : size < image.size - 12 ? "q.npy: its header is cut off, "
                                                              : "q.npy: ";
        ck_assert_msg(strncmp(tamis_last_error(), expected, strlen(expected)) == 0, "%zu: %s", size, tamis_last_error());
        free(exact);
    }
}
END_TEST

/* Every single byte of the head set to any value: a verdict, and a good one only with data of the right size. */
START_TEST(every_byte)
{
    struct image image = make_image(SHAPE("(2, 3)"), 12);
    for (size_t at = 0; at < image.size - 12; at++) {
        const unsigned char before = image.bytes[at];
        for (int value = 0; value < 256; value++) {
            struct npy npy;
            image.bytes[at] = (unsigned char)value;
            if (npy_parse(&npy, "q.npy", image.bytes, image.size) != TAMIS_OK) continue;
            ck_assert_uint_eq(npy.bytes, 12);
            npy_free(&npy);
        }
        image.bytes[at] = before;
    }
}
END_TEST

START_TEST(preamble)
{
    static const struct {
        size_t at;
        unsigned char value;
        const char *message;
    } cases[] = {{0, 'P', "q.npy: not an .npy file, one that numpy.save writes would be right"},
                 {5, 'X', "q.npy: not an .npy file, one that numpy.save writes would be right"},
                 {6, 0, "q.npy: .npy version 0.0, 1.0 to 3.0 would be right"},
                 {6, 4, "q.npy: .npy version 4.0, 1.0 to 3.0 would be right"},
                 {7, 1, "q.npy: .npy version 1.1, 1.0 to 3.0 would be right"},
                 {9, 0x40, "q.npy: its header is cut off, 16444 bytes of it would be right"},
                 {6, 2, "q.npy: a header of 662372412 bytes, at most 65536 would be right"}};
    struct image image = make_image(SHAPE("(2, 3)"), 12);
    struct npy npy;
    ck_assert_int_eq(image.bytes[8], 60);
    image.bytes[cases[_i].at] = cases[_i].value;
    ck_assert_int_eq(npy_parse(&npy, "q.npy", image.bytes, image.size), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), cases[_i].message);
}
END_TEST

/* Versions 2.0 and 3.0 have a longer length. */
START_TEST(later_versions)
{
    struct image image = make_image(SHAPE("(2, 3)"), 12);
    struct npy npy;
    memmove(image.bytes + 12, image.bytes + 10, image.size - 10);
    image.size += 2;
    image.bytes[6] = (unsigned char)_i;
    image.bytes[10] = image.bytes[11] = 0;
    ck_assert_msg(npy_parse(&npy, "q.npy", image.bytes, image.size) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq(npy.rank, 2);
    ck_assert_int_eq(npy.shape[1], 3);
    ck_assert_mem_eq(npy.data, "\x00\x01\x02\x03", 4);
    npy_free(&npy);
    ck_assert_int_eq(npy_parse(&npy, "q.npy", image.bytes, 11), TAMIS_EINVAL);
}
END_TEST

/* ---- files */

static const struct {
    enum npy_type type;
    int rank;
    long long shape[NPY_MAX_RANK];
    const char *header;
} files[] = {{NPY_U16, 4, {2, 3, 4, 8}, "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3, 4, 8), }"},
             {NPY_F16, 1, {77}, "{'descr': '<f2', 'fortran_order': False, 'shape': (77,), }"},
             {NPY_F32, 0, {0}, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }"},
             {NPY_I32, 2, {0, 1099511627776}, "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 1099511627776), }"},
             {NPY_F64, 6, {1, 2, 1, 2, 1, 2}, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2, 1, 2, 1, 2), }"}};

START_TEST(written_and_read)
{
    unsigned char data[1024], head[256];
    struct npy npy;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 7);
    ck_assert_int_eq(npy_write(file, files[_i].type, files[_i].rank, files[_i].shape, data), TAMIS_OK);
    ck_assert_int_eq(npy_write(file, files[_i].type, files[_i].rank, files[_i].shape, data), TAMIS_OK); /* over the first */
    ck_assert_msg(npy_read(&npy, file) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_int_eq((int)npy.type, (int)files[_i].type);
    ck_assert_int_eq(npy.rank, files[_i].rank);
    size_t bytes = npy_type_bytes(files[_i].type);
    for (int i = 0; i < npy.rank; i++) {
        ck_assert_int_eq(npy.shape[i], files[_i].shape[i]);
        bytes *= (size_t)npy.shape[i];
    }
    ck_assert_uint_eq(npy.bytes, bytes);
    ck_assert(bytes == 0 || memcmp(npy.data, data, bytes) == 0);
    npy_free(&npy);

    FILE *in = fopen(file, "rb");
    ck_assert_ptr_nonnull(in);
    const size_t got = fread(head, 1, sizeof head, in);
    fclose(in);
    ck_assert_uint_ge(got, 128);
    const size_t end = 10 + head[8] + 256u * head[9];
    ck_assert_uint_eq(end % 64, 0);
    ck_assert_int_eq(head[6], 1);
    ck_assert_int_eq(head[end - 1], '\n');
    ck_assert_mem_eq(head + 10, files[_i].header, strlen(files[_i].header));
}
END_TEST

START_TEST(names)
{
    static const char *const expected[] = {"uint16", "float16", "float32", "int32", "float64"};
    static const size_t bytes[] = {2, 2, 4, 4, 8};
    ck_assert_str_eq(npy_type_name((enum npy_type)_i), expected[_i]);
    ck_assert_uint_eq(npy_type_bytes((enum npy_type)_i), bytes[_i]);
}
END_TEST

static void check_read(const char *path, tamis_status status, const char *format)
{
    struct npy npy;
    char message[PATH_MAX + 64];
    snprintf(message, sizeof message, format, path); /* NOLINT: the formats are those below */
    ck_assert_int_eq(npy_read(&npy, path), status);
    ck_assert_str_eq(tamis_last_error(), message);
}

START_TEST(unreadable_files)
{
    check_read(file, TAMIS_ENOTFOUND, "cannot open %s: No such file or directory");
    check_read(folder, TAMIS_EINVAL, "%s: not a regular file, an .npy file would be right");
    ck_assert_int_eq(mkfifo(file, 0600), 0);
    check_read(file, TAMIS_EINVAL, "%s: not a regular file, an .npy file would be right");
    unlink(file);
    fclose(fopen(file, "wb"));
    check_read(file, TAMIS_EINVAL, "%s: not an .npy file, one that numpy.save writes would be right");
}
END_TEST

/* A sparse file whose header asks for more than there is: nothing is allocated for it. */
START_TEST(lying_large_file)
{
    const struct image image = make_image(SHAPE("(1000000000000,)"), 12);
    FILE *out = fopen(file, "wb");
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(image.bytes, 1, image.size, out), image.size);
    fclose(out);
    check_read(file, TAMIS_EINVAL, "%s: 12 bytes of data, 2000000000000 would be right by its shape");
}
END_TEST

START_TEST(unwritable_files)
{
    const long long shape[] = {4}, negative[] = {-4}, huge[] = {1LL << 62, 4};
    const float data[4] = {0};
    char path[PATH_MAX + 16];
    ck_assert_int_eq(npy_write("/dev/null/q.npy", NPY_F32, 1, shape, data), TAMIS_EIO);
    ck_assert_str_eq(tamis_last_error(), "cannot write /dev/null/q.npy: Not a directory");
    snprintf(path, sizeof path, "%s/no/q.npy", folder);
    ck_assert_int_eq(npy_write(path, NPY_F32, 1, shape, data), TAMIS_EIO);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "No such file or directory"));
    ck_assert_int_eq(npy_write(folder, NPY_F32, 1, shape, data), TAMIS_EIO); /* a folder cannot be replaced */
    char beside[PATH_MAX + 64];
    snprintf(beside, sizeof beside, "cannot write %s: Is a directory", folder);
    ck_assert_str_eq(tamis_last_error(), beside);
    const long long *const shapes[] = {negative, huge, shape, shape};
    const int ranks[] = {1, 2, 7, -1};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(npy_write("q.npy", NPY_F32, ranks[i], shapes[i], data), TAMIS_EINVAL);
        ck_assert_str_eq(tamis_last_error(), "q.npy: a bad shape to write, 0 to 6 non-negative dimensions would be right");
    }
}
END_TEST

/* Writing that stops in the middle leaves the old file as it was, and nothing beside it. */
START_TEST(full_disk)
{
    const long long few[] = {4}, many[] = {100000};
    float *data = calloc(100000, sizeof *data);
    struct npy npy;
    char message[PATH_MAX + 64];
    ck_assert_ptr_nonnull(data);
    ck_assert_int_eq(npy_write(file, NPY_F32, 1, few, data), TAMIS_OK);
    const struct rlimit limit = {65536, RLIM_INFINITY}; /* the nearest to a full disk that needs no privileges */
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const tamis_status status = npy_write(file, NPY_F32, 1, many, data);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    ck_assert_int_eq(status, TAMIS_EIO);
    snprintf(message, sizeof message, "cannot write %s: File too large", file);
    ck_assert_str_eq(tamis_last_error(), message);
    ck_assert_int_eq(npy_read(&npy, file), TAMIS_OK);
    ck_assert_int_eq(npy.shape[0], 4);
    npy_free(&npy);
    free(data);
}
END_TEST

Suite *npy_suite(void)
{
    Suite *suite = suite_create("npy");
    TCase *parse = tcase_create("parse"), *on_disk = tcase_create("files");
    tcase_add_loop_test(parse, header, 0, (int)(sizeof headers / sizeof *headers));
    tcase_add_test(parse, every_truncation);
    tcase_add_test(parse, every_byte);
    tcase_add_loop_test(parse, preamble, 0, 7);
    tcase_add_loop_test(parse, later_versions, 2, 4);
    tcase_add_loop_test(parse, names, 0, 5);
    tcase_add_checked_fixture(on_disk, set_up, tear_down);
    tcase_add_loop_test(on_disk, written_and_read, 0, (int)(sizeof files / sizeof *files));
    tcase_add_test(on_disk, unreadable_files);
    tcase_add_test(on_disk, lying_large_file);
    tcase_add_test(on_disk, unwritable_files);
    tcase_add_test(on_disk, full_disk);
    suite_add_tcase(suite, parse);
    suite_add_tcase(suite, on_disk);
    return suite;
}
