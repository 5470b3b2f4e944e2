/* SPDX-License-Identifier: Apache-2.0 */
/* tamis_kernels.c: the launcher. Choosing is by the table's order alone; see tamis_kernels.h. */
#include "tamis_kernels.h"

#include <dlfcn.h>
#include <string.h>

const char *tamis_kernels_error(int code)
{
    switch (code) {
    case 0:
        return "no error";
    case TAMIS_KERNELS_NO_DRIVER:
        return "the NVIDIA driver is missing, or older than CUDA 12.0";
    case TAMIS_KERNELS_NO_KERNEL:
        return "there is no such kernel";
    case TAMIS_KERNELS_ARGUMENTS:
        return "the arguments are not of the stage's size";
    default:
        return "error of the driver";
    }
}

/* ---- the driver */

int tamis_kernels_open(struct tamis_kernels_driver *out)
{
    static const char *const names[] = {"cuLibraryLoadData",   "cuLibraryUnload",    "cuLibraryGetKernel",
                                        "cuKernelGetFunction", "cuFuncSetAttribute", "cuLaunchKernel"};
    void *const members[] = {&out->library_load_data,   &out->library_unload,     &out->library_get_kernel,
                             &out->kernel_get_function, &out->func_set_attribute, &out->launch_kernel};
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int i;

    memset(out, 0, sizeof *out);
    if (!library) return TAMIS_KERNELS_NO_DRIVER;
    for (i = 0; i < 6; i++) {
        void *address = dlsym(library, names[i]);

        if (!address) return TAMIS_KERNELS_NO_DRIVER;
        memcpy(members[i], &address, sizeof address); /* POSIX: a function's address fits a pointer to data */
    }
    return 0;
}

/* ---- choosing */

static int table_has_arch(const char *arch)
{
    int i;

    for (i = 0; i < tamis_kernels_count; i++)
        if (strcmp(tamis_kernels_table[i].arch, arch) == 0) return 1;
    return 0;
}

/* A device runs kernels of its own major number up to its own minor; those of sm_90a on 9.0 alone, which has no other. */
const char *tamis_kernels_arch(int major, int minor)
{
    static const struct {
        int major, minor;
        const char *arch;
    } archs[] = {{12, 0, "sm_120"}, {10, 0, "sm_100"}, {9, 0, "sm_90a"},
                 {8, 9, "sm_89"},   {8, 6, "sm_86"},   {8, 0, "sm_80"}};
    int i;

    for (i = 0; i < 6; i++)
        if (archs[i].major == major && archs[i].minor <= minor && table_has_arch(archs[i].arch)) return archs[i].arch;
    return NULL;
}

static int suits(const struct tamis_kernels_entry *entry, const char *spec, const char *arch, int dtype, int head_dim)
{
    return (!spec || strcmp(entry->spec, spec) == 0) && arch && strcmp(entry->arch, arch) == 0 &&
           (entry->dtype < 0 || entry->dtype == dtype) && (entry->head_dim == 0 || entry->head_dim == head_dim);
}

static int same_variant(const struct tamis_kernels_entry *a, const struct tamis_kernels_entry *b)
{
    return strcmp(a->variant, b->variant) == 0 && strcmp(a->spec, b->spec) == 0 && a->cubin == b->cubin;
}

/* 1: the family is served by another variant, which stands before this one in the table. */
static int is_late(const struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    int i;

    for (i = 0; i < kernels->count; i++)
        if (strcmp(kernels->entries[i]->family, entry->family) == 0) return !same_variant(kernels->entries[i], entry);
    return 0;
}

/* ---- loading */

/* The library that holds the entry; the kernels of a variant stand together, so it is the last one loaded or a new one. */
static int load_library(struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    const struct tamis_kernels_driver *driver = &kernels->driver;
    int code;

    if (kernels->count > 0 && kernels->entries[kernels->count - 1]->cubin == entry->cubin) return 0;
    code = driver->library_load_data(&kernels->libraries[kernels->library_count], entry->cubin, NULL, NULL, 0, NULL, NULL, 0);
    if (code == 0) kernels->library_count++;
    return code;
}

static int load_entry(struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    const int max_dynamic_shared = 8, unasked = 48 * 1024; /* CUfunction_attribute; what any block may have */
    const struct tamis_kernels_driver *driver = &kernels->driver;
    void *kernel = NULL, *function = NULL;
    int code;

    if (kernels->count == (int)(sizeof kernels->entries / sizeof *kernels->entries)) return TAMIS_KERNELS_NO_KERNEL;
    code = load_library(kernels, entry);
    if (code == 0) code = driver->library_get_kernel(&kernel, kernels->libraries[kernels->library_count - 1], entry->symbol);
    if (code == 0) code = driver->kernel_get_function(&function, kernel);
    if (code == 0 && entry->shared_bytes > unasked)
        code = driver->func_set_attribute(function, max_dynamic_shared, entry->shared_bytes);
    if (code != 0) return code;
    kernels->entries[kernels->count] = entry;
    kernels->functions[kernels->count++] = function;
    return 0;
}

int tamis_kernels_load(struct tamis_kernels *out, const struct tamis_kernels_driver *driver, const char *spec,
                       const char *arch, int dtype, int head_dim)
{
    int code = 0, i;

    memset(out, 0, sizeof *out);
    out->driver = *driver;
    for (i = 0; i < tamis_kernels_count && code == 0; i++) {
        const struct tamis_kernels_entry *entry = &tamis_kernels_table[i];

        if (suits(entry, spec, arch, dtype, head_dim) && !is_late(out, entry)) code = load_entry(out, entry);
    }
    if (code == 0 && out->count == 0) code = TAMIS_KERNELS_NO_KERNEL;
    if (code != 0) tamis_kernels_unload(out);
    return code;
}

void tamis_kernels_unload(struct tamis_kernels *kernels)
{
    while (kernels->library_count > 0) kernels->driver.library_unload(kernels->libraries[--kernels->library_count]);
    memset(kernels, 0, sizeof *kernels);
}

/* ---- launching */

size_t tamis_kernels_args_bytes(const char *stage)
{
    static const struct {
        const char *stage;
        size_t bytes;
    } stages[] = {{"score_stats", sizeof(struct tamis_score_args)},    {"score_merge", sizeof(struct tamis_score_args)},
                  {"score_sum", sizeof(struct tamis_score_args)},      {"score_stats_tma", sizeof(struct tamis_score_tma_args)},
                  {"score_sum_tma", sizeof(struct tamis_score_tma_args)}, {"select_pool", sizeof(struct tamis_pool_args)},
                  {"select_budget", sizeof(struct tamis_budget_args)}, {"select_tokens", sizeof(struct tamis_tokens_args)},
                  {"compress", sizeof(struct tamis_compress_args)},    {"attend", sizeof(struct tamis_attend_args)},
                  {"attend_tma", sizeof(struct tamis_attend_tma_args)}, {"decompress", sizeof(struct tamis_decompress_args)}};
    size_t i;

    for (i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strcmp(stages[i].stage, stage) == 0) return stages[i].bytes;
    return 0;
}

static int find_stage(const struct tamis_kernels *kernels, const char *stage)
{
    int i;

    for (i = 0; i < kernels->count; i++)
        if (strcmp(kernels->entries[i]->stage, stage) == 0) return i;
    return -1;
}

const struct tamis_kernels_entry *tamis_kernels_find(const struct tamis_kernels *kernels, const char *stage)
{
    const int at = find_stage(kernels, stage);

    return at < 0 ? NULL : kernels->entries[at];
}

int tamis_kernels_launch(const struct tamis_kernels *kernels, const char *stage, unsigned x, unsigned y, unsigned z,
                         void *args, size_t args_bytes, void *stream)
{
    const int at = find_stage(kernels, stage);
    const struct tamis_kernels_entry *entry;
    void *params[1];

    if (at < 0) return TAMIS_KERNELS_NO_KERNEL;
    if (args_bytes != tamis_kernels_args_bytes(stage)) return TAMIS_KERNELS_ARGUMENTS;
    entry = kernels->entries[at];
    params[0] = args;
    return kernels->driver.launch_kernel(kernels->functions[at], x, y, z, (unsigned)entry->threads, 1, 1,
                                         (unsigned)entry->shared_bytes, stream, params, NULL);
}
