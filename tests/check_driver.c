/*
 * check_driver.c: finding and opening libcuda and libnvrtc: overrides, absent and wrong files, each symbol missing in turn,
 * old versions, many threads at once. Against fake_cuda (TAMIS_FAKE_CUDA), each case in a process of its own.
 */
#define _XOPEN_SOURCE 700 /* realpath */

#include "child.h"
#include "driver.h"
#include "error.h"
#include "fake_cuda.h"
#include "folder.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

Suite *driver_suite(void);

static const char *fake; /* the library's file */

static void set_up(void)
{
    fake = getenv("TAMIS_FAKE_CUDA");
    ck_assert_msg(fake && access(fake, R_OK) == 0, "TAMIS_FAKE_CUDA must name the fake libcuda");
    folder_make("driver");
}

/* A copy of the fake in which the symbol `without` (NULL: none) has another name, with `more` bytes behind its end. */
static void copy_fake(const char *name, const char *without, size_t more)
{
    FILE *in = fopen(fake, "rb"), *out = fopen(folder_file(name), "wb");
    ck_assert(in && out && fseek(in, 0, SEEK_END) == 0);
    const size_t bytes = (size_t)ftell(in), length = without ? strlen(without) : 0;
    char *data = calloc(1, bytes + more + 1);
    int renamed = 0;
    ck_assert_ptr_nonnull(data);
    rewind(in);
    ck_assert_uint_eq(fread(data, 1, bytes, in), bytes);
    for (size_t at = 1; without && at + length < bytes; at++) /* a lookup by hash finds the place, but not the name */
        if (memcmp(data + at, without, length + 1) == 0 && data[at - 1] == '\0') {
            data[at] = 'X';
            renamed++;
        }
    ck_assert_msg(!without || renamed > 0, "the fake has no %s", without);
    ck_assert_uint_eq(fwrite(data, 1, bytes + more, out), bytes + more);
    ck_assert_int_eq(fclose(out), 0);
    fclose(in);
    free(data);
}

/* ---- one attempt in a child */

struct attempt {
    const char *variable, *value; /* TAMIS_LIBCUDA or TAMIS_LIBNVRTC and what it names */
    const char *setting, *setting_value; /* one of the fake's, or NULL */
    tamis_status status;
    const char *message; /* which the error contains */
};

static tamis_status get(const struct attempt *attempt)
{
    const struct tamisi_cuda *cuda;
    const struct tamisi_nvrtc *nvrtc;
    return strcmp(attempt->variable, "TAMIS_LIBCUDA") == 0 ? tamisi_cuda_get(&cuda) : tamisi_nvrtc_get(&nvrtc);
}

static void *get_in_thread(void *argument)
{
    const struct attempt *attempt = argument;
    const bool same = get(attempt) == attempt->status && strstr(tamis_last_error(), attempt->message);
    return same ? argument : NULL;
}

static void try_get(const void *argument)
{
    struct attempt attempt = *(const struct attempt *)argument;
    setenv(attempt.variable, attempt.value, 1);
    if (attempt.setting) setenv(attempt.setting, attempt.setting_value, 1);
    for (int i = 0; i < 3; i++) { /* the message belongs to every call, not to the first */
        tamisi_error_clear();
        const tamis_status status = get(&attempt);
        child_expect(status == attempt.status, "%s: %s", tamis_status_name(status), tamis_last_error());
        child_expect(strstr(tamis_last_error(), attempt.message) != NULL, "not \"%s\": %s", attempt.message,
                     tamis_last_error());
        child_expect(status != TAMIS_OK || *tamis_last_error() == '\0', "success, but: %s", tamis_last_error());
    }
    pthread_t thread;
    void *same = NULL;
    child_expect(pthread_create(&thread, NULL, get_in_thread, &attempt) == 0, "no thread");
    pthread_join(thread, &same);
    child_expect(same != NULL, "another thread is told something else");
}

static void check_attempt(const char *variable, const char *value, const char *setting, const char *setting_value,
                          tamis_status status, const char *message)
{
    const struct attempt attempt = {variable, value, setting, setting_value, status, message};
    child_run(try_get, &attempt);
}

static void check_cuda(const char *value, const char *setting, const char *setting_value, tamis_status status,
                       const char *message)
{
    check_attempt("TAMIS_LIBCUDA", value, setting, setting_value, status, message);
}

static void check_nvrtc(const char *value, const char *setting, const char *setting_value, tamis_status status,
                        const char *message)
{
    check_attempt("TAMIS_LIBNVRTC", value, setting, setting_value, status, message);
}

/* ------------------------------------------------------------------------------------------------------------ libcuda */

START_TEST(test_cuda_absent)
{
    check_cuda(folder_file("none.so"), NULL, NULL, TAMIS_ENODEVICE, "none.so");
    check_cuda(folder, NULL, NULL, TAMIS_ENODEVICE, "TAMIS_LIBCUDA");
    folder_write("text", "no library\n");
    check_cuda(folder_file("text"), NULL, NULL, TAMIS_ENODEVICE, "TAMIS_LIBCUDA");
    check_cuda("libm.so.6", NULL, NULL, TAMIS_ENODEVICE, "is no CUDA driver: it lacks cuDriverGetVersion");
}
END_TEST

START_TEST(test_cuda_version)
{
    check_cuda(fake, "FAKE_CUDA_VERSION", "11080", TAMIS_EUNSUPPORTED, "supports CUDA 11.8: 12.0 or newer is needed");
    check_cuda(fake, "FAKE_CUDA_VERSION", "12000", TAMIS_OK, "");
    check_cuda(fake, "FAKE_CUDA_VERSION", "-34", TAMIS_ENODEVICE, "is no CUDA driver, but a toolkit's stub for linking");
    check_cuda(fake, "FAKE_CUDA_VERSION", "-999", TAMIS_ENODEVICE, "cuDriverGetVersion failed: error 999");
    check_cuda(fake, "FAKE_CUDA_DEVICES", "0", TAMIS_ENODEVICE, "CUDA_ERROR_NO_DEVICE: no CUDA-capable device");
    check_cuda(fake, "FAKE_CUDA_FAIL", "cuInit:1:999", TAMIS_ENODEVICE, "CUDA_ERROR_UNKNOWN");
    check_cuda(fake, "FAKE_CUDA_FAIL", "cuInit:1:12345", TAMIS_ENODEVICE, "CUDA error 12345");
}
END_TEST

static const char *const cuda_symbols[] = {
    "cuDriverGetVersion", "cuInit", "cuGetErrorString", "cuGetErrorName", "cuDeviceGetCount", "cuDeviceGet",
    "cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2", "cuDeviceGetPCIBusId",
    "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2",
    "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2", "cuLibraryLoadData", "cuLibraryUnload", "cuLibraryGetKernel",
    "cuKernelGetFunction", "cuFuncSetAttribute", "cuFuncGetAttribute", "cuLaunchKernelEx", "cuMemAlloc_v2", "cuMemFree_v2",
    "cuMemGetInfo_v2", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemsetD8Async", "cuMemsetD32Async",
    "cuStreamCreate", "cuStreamDestroy_v2", "cuStreamSynchronize", "cuEventCreate", "cuEventDestroy_v2", "cuEventRecord",
    "cuEventSynchronize", "cuEventElapsedTime", "cuTensorMapEncodeTiled"};

START_TEST(test_cuda_symbol_missing)
{
    char message[64];
    copy_fake("a.so", cuda_symbols[_i], 0);
    snprintf(message, sizeof message, "lacks %s", cuda_symbols[_i]);
    check_cuda(folder_file("a.so"), NULL, NULL, TAMIS_ENODEVICE, message);
}
END_TEST

/* The table is whole and one for all callers. */
static void expect_table(const void *argument)
{
    const struct tamisi_cuda *cuda, *again;
    char resolved[PATH_MAX];
    (void)argument;
    setenv("TAMIS_LIBCUDA", fake, 1);
    child_expect(tamisi_cuda_get(&cuda) == TAMIS_OK, "%s", tamis_last_error());
    child_expect(tamisi_cuda_get(&again) == TAMIS_OK && again == cuda, "another table");
    child_expect(cuda->version == 13000, "version %d", cuda->version);
    child_expect(realpath(fake, resolved) && strcmp(cuda->path, resolved) == 0, "path %s", cuda->path);
    void *const *entries = (void *const *)(const void *)&cuda->init;
    const size_t count = (sizeof *cuda - offsetof(struct tamisi_cuda, init)) / sizeof *entries;
    /* The version's entry is called once and not kept. */
    child_expect(count == sizeof cuda_symbols / sizeof *cuda_symbols - 1, "%zu entries", count);
    for (size_t i = 0; i < count; i++) {
        child_expect(entries[i] != NULL, "entry %zu is not set", i);
        for (size_t j = 0; j < i; j++) child_expect(entries[i] != entries[j], "entries %zu and %zu are one", i, j);
    }
}

START_TEST(test_cuda_table) { child_run(expect_table, NULL); }
END_TEST

static void expect_checks(const void *argument)
{
    static const struct {
        int code;
        tamis_status status;
        const char *message;
    } cases[] = {{2, TAMIS_ENOMEM, "this: CUDA_ERROR_OUT_OF_MEMORY: out of memory"},
                 {700, TAMIS_ECUDA, "this: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"},
                 {12345, TAMIS_ECUDA, "this: CUDA error 12345"}};
    const struct tamisi_cuda *cuda;
    (void)argument;
    setenv("TAMIS_LIBCUDA", fake, 1);
    child_expect(tamisi_cuda_get(&cuda) == TAMIS_OK, "%s", tamis_last_error());
    child_expect(tamisi_cuda_check(cuda, 0, "this") == TAMIS_OK, "success is no error");
    child_expect(*tamis_last_error() == '\0', "success, but: %s", tamis_last_error());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        child_expect(tamisi_cuda_check(cuda, cases[i].code, "this") == cases[i].status, "status of %d", cases[i].code);
        child_expect(strcmp(tamis_last_error(), cases[i].message) == 0, "%s", tamis_last_error());
    }
}

START_TEST(test_cuda_check) { child_run(expect_checks, NULL); }
END_TEST

/* An empty override is none: what then happens depends on the machine, but not on the variable. */
static void expect_empty_ignored(const void *argument)
{
    const struct tamisi_cuda *cuda;
    (void)argument;
    setenv("TAMIS_LIBCUDA", "", 1);
    const tamis_status status = tamisi_cuda_get(&cuda);
    child_expect(status == TAMIS_OK || status == TAMIS_ENODEVICE || status == TAMIS_EUNSUPPORTED, "status %d", (int)status);
    child_expect(strstr(tamis_last_error(), "TAMIS_LIBCUDA") == NULL, "%s", tamis_last_error());
    child_expect((status == TAMIS_OK) == (*tamis_last_error() == '\0'), "%s", tamis_last_error());
}

START_TEST(test_cuda_empty_override) { child_run(expect_empty_ignored, NULL); }
END_TEST

static void *get_table(void *argument)
{
    const struct tamisi_cuda *cuda = NULL;
    (void)argument;
    return tamisi_cuda_get(&cuda) == TAMIS_OK ? (void *)(uintptr_t)cuda : NULL;
}

static void expect_one_opening(const void *argument)
{
    enum { count = 8 };
    pthread_t threads[count];
    void *tables[count];
    struct fake_cuda_counts counts;
    (void)argument;
    setenv("TAMIS_LIBCUDA", fake, 1);
    for (int i = 0; i < count; i++) child_expect(pthread_create(&threads[i], NULL, get_table, NULL) == 0, "no thread");
    for (int i = 0; i < count; i++) pthread_join(threads[i], &tables[i]);
    for (int i = 0; i < count; i++) child_expect(tables[i] && tables[i] == tables[0], "thread %d has another table", i);
    void *library = dlopen(fake, RTLD_NOW);
    fake_cuda_counts_fn *read_counts;
    void *symbol = library ? dlsym(library, "fake_cuda_counts") : NULL;
    child_expect(symbol != NULL, "the fake does not count");
    memcpy(&read_counts, &symbol, sizeof symbol);
    read_counts(&counts);
    child_expect(counts.calls == 1, "%ld calls instead of one cuInit", counts.calls);
}

START_TEST(test_cuda_threads) { child_run(expect_one_opening, NULL); }
END_TEST

/* -------------------------------------------------------------------------------------------------------------- NVRTC */

static const char *const nvrtc_symbols[] = {
    "nvrtcVersion", "nvrtcGetErrorString", "nvrtcGetNumSupportedArchs", "nvrtcGetSupportedArchs", "nvrtcCreateProgram",
    "nvrtcDestroyProgram", "nvrtcCompileProgram", "nvrtcGetCUBINSize", "nvrtcGetCUBIN", "nvrtcGetProgramLogSize",
    "nvrtcGetProgramLog"};

START_TEST(test_nvrtc_absent)
{
    check_nvrtc(folder_file("none.so"), NULL, NULL, TAMIS_ECOMPILE, "no NVRTC where TAMIS_LIBNVRTC says: ");
    check_nvrtc(folder, NULL, NULL, TAMIS_ECOMPILE, "no NVRTC in the folder named by TAMIS_LIBNVRTC: ");
    folder_write("text", "no library\n");
    check_nvrtc(folder_file("text"), NULL, NULL, TAMIS_ECOMPILE, "cannot open NVRTC: ");
    check_nvrtc("libm.so.6", NULL, NULL, TAMIS_ECOMPILE, "is no NVRTC: it lacks nvrtcVersion");
    check_nvrtc(fake, "FAKE_NVRTC_VERSION", "11.8", TAMIS_ECOMPILE, "is NVRTC 11.8: 12.0 or newer is needed");
    check_nvrtc(fake, "FAKE_NVRTC_VERSION", "12.0", TAMIS_OK, "");
}
END_TEST

START_TEST(test_nvrtc_symbol_missing)
{
    char message[64];
    copy_fake("a.so", nvrtc_symbols[_i], 0);
    snprintf(message, sizeof message, "lacks %s", nvrtc_symbols[_i]);
    check_nvrtc(folder_file("a.so"), NULL, NULL, TAMIS_ECOMPILE, message);
}
END_TEST

/* The path and identity under which a child sees NVRTC. */
static void tell_nvrtc(const void *argument)
{
    const struct tamisi_nvrtc *nvrtc;
    setenv("TAMIS_LIBNVRTC", argument, 1);
    child_expect(tamisi_nvrtc_get(&nvrtc) == TAMIS_OK, "%s", tamis_last_error());
    FILE *out = fopen(folder_file("text"), "w");
    child_expect(out != NULL, "cannot write");
    fprintf(out, "%s\n%s\n%d.%d\n", nvrtc->path, nvrtc->identity, nvrtc->major, nvrtc->minor);
    fclose(out);
}

static void ask_nvrtc(const char *value, char path[PATH_MAX], char identity[96])
{
    char version[32];
    child_run(tell_nvrtc, value);
    FILE *in = fopen(folder_file("text"), "r");
    ck_assert_ptr_nonnull(in);
    ck_assert(fgets(path, PATH_MAX, in) && fgets(identity, 96, in) && fgets(version, sizeof version, in));
    fclose(in);
    path[strcspn(path, "\n")] = identity[strcspn(identity, "\n")] = '\0';
    ck_assert_str_eq(version, "13.0\n");
    ck_assert_int_eq(strncmp(identity, "nvrtc 13.0 ", 11), 0);
    ck_assert_uint_eq(strlen(identity), 11 + 32);
}

/* A build of NVRTC is told from another by its content, not by where it lies. */
START_TEST(test_nvrtc_identity)
{
    char path[PATH_MAX], first[96], second[96], longer[96], other[96];
    copy_fake("a.so", NULL, 0);
    copy_fake("b.so", NULL, 0);
    ask_nvrtc(folder_file("a.so"), path, first);
    ask_nvrtc(folder_file("b.so"), path, second);
    ck_assert_str_eq(path, folder_file("b.so"));
    ck_assert_str_eq(first, second);
    copy_fake("b.so", NULL, 1);
    ask_nvrtc(folder_file("b.so"), path, longer);
    ck_assert_str_ne(first, longer);
    copy_fake("b.so", "cuEventRecord", 0); /* a name near its head */
    ask_nvrtc(folder_file("b.so"), path, other);
    ck_assert_str_ne(first, other);
}
END_TEST

/* A folder is looked through as a toolkit's and as a Python prefix; a broken library in it does not end the search. */
START_TEST(test_nvrtc_folder)
{
    char path[PATH_MAX], identity[96], resolved[PATH_MAX];
    ck_assert_ptr_nonnull(realpath(fake, resolved));
    ck_assert_int_eq(mkdir(folder_file("nvidia"), 0700) | mkdir(folder_file("nvidia/cuda_nvrtc"), 0700) |
                         mkdir(folder_file("nvidia/cuda_nvrtc/lib"), 0700) | mkdir(folder_file("lib64"), 0700), 0);
    ck_assert_int_eq(symlink(resolved, folder_file("nvidia/cuda_nvrtc/lib/libnvrtc.so.12")), 0);
    ask_nvrtc(folder, path, identity);
    ck_assert_str_eq(path, resolved);
    folder_write("lib64/libnvrtc.so.13", "no library\n");
    ask_nvrtc(folder, path, identity);
    ck_assert_str_eq(path, resolved);
    ck_assert_int_eq(unlink(folder_file("nvidia/cuda_nvrtc/lib/libnvrtc.so.12")), 0);
    check_nvrtc(folder, NULL, NULL, TAMIS_ECOMPILE, "cannot open NVRTC: ");
    copy_fake("libnvrtc.so.13", NULL, 0);
    ask_nvrtc(folder, path, identity);
    ck_assert_str_eq(path, folder_file("libnvrtc.so.13"));
}
END_TEST

Suite *driver_suite(void)
{
    Suite *suite = suite_create("driver");
    TCase *cuda = tcase_create("cuda"), *nvrtc = tcase_create("nvrtc");
    tcase_add_checked_fixture(cuda, set_up, folder_remove);
    tcase_add_test(cuda, test_cuda_absent);
    tcase_add_test(cuda, test_cuda_version);
    tcase_add_loop_test(cuda, test_cuda_symbol_missing, 0, sizeof cuda_symbols / sizeof *cuda_symbols);
    tcase_add_test(cuda, test_cuda_table);
    tcase_add_test(cuda, test_cuda_check);
    tcase_add_test(cuda, test_cuda_empty_override);
    tcase_add_test(cuda, test_cuda_threads);
    suite_add_tcase(suite, cuda);
    tcase_add_checked_fixture(nvrtc, set_up, folder_remove);
    tcase_add_test(nvrtc, test_nvrtc_absent);
    tcase_add_loop_test(nvrtc, test_nvrtc_symbol_missing, 0, sizeof nvrtc_symbols / sizeof *nvrtc_symbols);
    tcase_add_test(nvrtc, test_nvrtc_identity);
    tcase_add_test(nvrtc, test_nvrtc_folder);
    suite_add_tcase(suite, nvrtc);
    return suite;
}
