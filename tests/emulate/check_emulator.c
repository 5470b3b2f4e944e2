/*
 * check_emulator.c: does the emulator do what it says, and find what it says that it finds? `check_emulator CASES_DIR` runs
 * the kernels of a folder, through the driver's entry points alone. The comments at a file's head say what is to be launched
 * and what is to come of it; its kernel is test(int *), which is given 64 zeros.
 *   // expect: N       the launch succeeds, and leaves N
 *   // fails: TEXT     it fails, with a message in which TEXT is
 *   // loads: not      it does not even compile
 *   // block:, grid:, cluster:, shared:  threads, blocks, blocks, bytes; 32, 1, 1 and 0 unless said
 */
#define _GNU_SOURCE
#include "driver.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { memory_bytes = 256, source_bytes = 16384 };

static const struct tamisi_cuda *cuda;

/* What stands behind "// KEY: " in a line of the source, or NULL; until the next call. */
static const char *find(const char *source, const char *key)
{
    static char value[160];
    char mark[32];
    snprintf(mark, sizeof mark, "// %s: ", key);
    const char *at = strstr(source, mark);
    if (!at) return NULL;
    snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(mark), "\n"), at + strlen(mark));
    return value;
}

static unsigned find_number(const char *source, const char *key, unsigned otherwise)
{
    const char *value = find(source, key);
    return value ? (unsigned)atoi(value) : otherwise;
}

static char *read_case(const char *folder, const char *name)
{
    static char image[source_bytes + 128];
    char path[4096];
    const size_t head = (size_t)snprintf(image, 128, "cubin of %s for sm_90a", name) + 1;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (!file) return NULL;
    image[head + fread(image + head, 1, source_bytes - 1, file)] = '\0';
    fclose(file);
    return image;
}

static tamisi_cu_result launch(tamisi_cu_function function, const char *source, tamisi_cu_deviceptr memory)
{
    void *params[] = {&memory};
    const unsigned cluster = find_number(source, "cluster", 1);
    struct tamisi_cu_launch_attribute attribute = {.id = TAMISI_CU_LAUNCH_CLUSTER_DIMENSION, .value = {cluster, 1, 1}};
    const struct tamisi_cu_launch config = {.grid = {find_number(source, "grid", 1), 1, 1},
                                            .block = {find_number(source, "block", 32), 1, 1},
                                            .shared_bytes = find_number(source, "shared", 0),
                                            .attributes = &attribute,
                                            .attribute_count = 1};
    return cuda->launch_kernel(&config, function, params, NULL);
}

static bool check_result(const char *source, tamisi_cu_result result, int left)
{
    const char *text = "";
    const char *wanted = find(source, "fails");
    if (result != 0) cuda->get_error_string(result, &text);
    if (wanted && result != 0 && strstr(text, wanted)) return true;
    if (wanted) {
        printf("  fails not with \"%s\", but: %s\n", wanted, result ? text : "not at all");
        return false;
    }
    const int expected = (int)find_number(source, "expect", 0);
    if (result == 0 && left == expected && find(source, "expect")) return true;
    printf("  leaves %d, not %d %s\n", left, expected, text);
    return false;
}

static bool check_case(const char *folder, const char *name)
{
    const char *image = read_case(folder, name);
    if (!image) return false;
    const char *source = image + strlen(image) + 1;
    tamisi_cu_library library;
    tamisi_cu_kernel kernel;
    tamisi_cu_function function;
    tamisi_cu_deviceptr memory = 0;
    int left = -1;
    const bool loads = cuda->library_load_data(&library, image, NULL, NULL, 0, NULL, NULL, 0) == 0;
    if (find(source, "loads")) return !loads;
    if (!loads || cuda->library_get_kernel(&kernel, library, "test") != 0 ||
        cuda->kernel_get_function(&function, kernel) != 0 || cuda->mem_alloc(&memory, memory_bytes) != 0 ||
        cuda->memset_d8_async(memory, 0, memory_bytes, NULL) != 0)
        return false;
    const tamisi_cu_result result = launch(function, source, memory);
    cuda->memcpy_dtoh_async(&left, memory, sizeof left, NULL);
    cuda->mem_free(memory);
    cuda->library_unload(library);
    return check_result(source, result, left);
}

static bool open_device(void)
{
    tamisi_cu_context context;
    if (tamisi_cuda_get(&cuda) == TAMIS_OK && cuda->primary_ctx_retain(&context, 0) == 0 && cuda->ctx_push(context) == 0)
        return true;
    fprintf(stderr, "check_emulator: %s\n", tamis_last_error());
    return false;
}

static int is_source(const struct dirent *entry)
{
    const size_t length = strlen(entry->d_name);
    return length > 3 && strcmp(entry->d_name + length - 3, ".cu") == 0;
}

int main(int argc, char **argv)
{
    struct dirent **names;
    int passed = 0, failed = 0;
    if (argc != 2) {
        fprintf(stderr, "usage: %s CASES_DIR\n", argv[0]);
        return 2;
    }
    if (!open_device()) return 1;
    const int count = scandir(argv[1], &names, is_source, alphasort);
    for (int i = 0; i < count; i++) {
        const bool ok = check_case(argv[1], names[i]->d_name);
        printf("%s %s\n", ok ? "ok    " : "FAILED", names[i]->d_name);
        fflush(stdout);
        if (ok)
            passed++;
        else
            failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}
