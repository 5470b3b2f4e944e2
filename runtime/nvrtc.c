/*
 * nvrtc.c: NVRTC's entry points: finding the library and its builtins, filling the table once a process, and telling one
 * build of NVRTC from another. Layer: above error, hash and dynamic, below compile.
 */
#define _POSIX_C_SOURCE 200809L

#include "driver.h"
#include "dynamic.h"
#include "error.h"
#include "hash.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYMBOL(name, member) {name, offsetof(struct tamisi_nvrtc, member)}
static const struct tamisi_symbol symbols[] = {
    SYMBOL("nvrtcVersion", version),
    SYMBOL("nvrtcGetErrorString", get_error_string),
    SYMBOL("nvrtcGetNumSupportedArchs", get_num_supported_archs),
    SYMBOL("nvrtcGetSupportedArchs", get_supported_archs),
    SYMBOL("nvrtcCreateProgram", create_program),
    SYMBOL("nvrtcDestroyProgram", destroy_program),
    SYMBOL("nvrtcCompileProgram", compile_program),
    SYMBOL("nvrtcGetCUBINSize", get_cubin_size),
    SYMBOL("nvrtcGetCUBIN", get_cubin),
    SYMBOL("nvrtcGetProgramLogSize", get_log_size),
    SYMBOL("nvrtcGetProgramLog", get_log),
};

static const char *const sonames[] = {"libnvrtc.so.13", "libnvrtc.so.12"};

/* Below a folder that was named: the folder itself, a toolkit's, and those of the wheels nvidia-cuda-nvrtc(-cu12). */
static const char *const subfolders[] = {"",       "/lib64",
                                         "/lib",   "/targets/x86_64-linux/lib",
                                         "/targets/sbsa-linux/lib", "/nvidia/cu13/lib",
                                         "/nvidia/cuda_nvrtc/lib"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct {
    pthread_once_t once;
    struct tamisi_nvrtc table;
    tamis_status status;
    char message[768];
} nvrtc = {.once = PTHREAD_ONCE_INIT};

/*
 * Version, and a hash of the file's size and head, where the linker put the build's id: two builds of one version differ.
 * The whole file is over 100 MB, too much to read at every start.
 */
static tamis_status make_identity(struct tamisi_nvrtc *table)
{
    static char head[64 * 1024];
    struct stat file = {0};
    const int descriptor = open(table->path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = -1;
    if (descriptor >= 0 && fstat(descriptor, &file) == 0) bytes = read(descriptor, head, sizeof head);
    if (descriptor >= 0) close(descriptor);
    if (bytes <= 0) return tamisi_fail(TAMIS_ECOMPILE, "cannot read %s", table->path);
    const long long size = file.st_size;
    const struct tamisi_hash_part parts[] = {{head, (size_t)bytes}, {&size, sizeof size}};
    const struct tamisi_hash hash = tamisi_hash_parts(parts, COUNT(parts));
    char hex[TAMISI_HASH_HEX_SIZE];
    tamisi_hash_hex(&hash, hex);
    snprintf(table->identity, sizeof table->identity, "nvrtc %d.%d %s", table->major, table->minor, hex);
    return TAMIS_OK;
}

/* Not found is no failure: an NVRTC linked with its builtins, or one that finds them itself, compiles all the same. */
static void open_builtins(const struct tamisi_nvrtc *table)
{
    char name[640];
    const char *slash = strrchr(table->path, '/');
    if (!slash) return;
    snprintf(name, sizeof name, "%.*s/libnvrtc-builtins.so.%d.%d", (int)(slash - table->path), table->path, table->major,
             table->minor);
    dlopen(name, RTLD_NOW | RTLD_GLOBAL);
}

/* On success the library stays open. */
static tamis_status use_library(struct tamisi_nvrtc *table, void *library, const char *name)
{
    tamisi_dynamic_path(table->path, sizeof table->path, library, "nvrtcVersion", name);
    const char *missing = tamisi_dynamic_fill(table, library, symbols, 1);
    if (missing) return tamisi_fail(TAMIS_ECOMPILE, "%s is no NVRTC: it lacks %s", table->path, missing);
    if (table->version(&table->major, &table->minor) != 0 || table->major < 12)
        return tamisi_fail(TAMIS_ECOMPILE, "%s is NVRTC %d.%d: 12.0 or newer is needed", table->path, table->major,
                           table->minor);
    missing = tamisi_dynamic_fill(table, library, symbols, COUNT(symbols));
    if (missing)
        return tamisi_fail(TAMIS_ECOMPILE, "%s (NVRTC %d.%d) lacks %s", table->path, table->major, table->minor, missing);
    TAMIS_TRY(make_identity(table));
    open_builtins(table);
    return TAMIS_OK;
}

/* TAMIS_ENOTFOUND where there is no such file; TAMIS_ECOMPILE where there is one that cannot be used. */
static tamis_status try_file(const char *name)
{
    if (strchr(name, '/') && access(name, F_OK) != 0) return TAMIS_ENOTFOUND;
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *reason = dlerror();
        if (!strchr(name, '/')) return TAMIS_ENOTFOUND; /* by soname: absent, as far as one can tell */
        return tamisi_fail(TAMIS_ECOMPILE, "cannot open NVRTC: %s", reason);
    }
    struct tamisi_nvrtc table = {0};
    const tamis_status status = use_library(&table, library, name);
    if (status == TAMIS_OK)
        nvrtc.table = table;
    else
        dlclose(library);
    return status;
}

/* The first usable library below a folder. A broken one is remembered by the message, but the search goes on. */
static tamis_status try_folder(const char *folder)
{
    tamis_status worst = TAMIS_ENOTFOUND;
    for (size_t version = 0; version < COUNT(sonames); version++)
        for (size_t i = 0; i < COUNT(subfolders); i++) {
            char name[1024];
            const int length = snprintf(name, sizeof name, "%s%s/%s", folder, subfolders[i], sonames[version]);
            if (length < 0 || (size_t)length >= sizeof name) continue;
            const tamis_status status = try_file(name);
            if (status == TAMIS_OK) return status;
            if (status != TAMIS_ENOTFOUND) worst = status;
        }
    return worst;
}

static tamis_status try_override(const char *name)
{
    struct stat file;
    tamis_status status;
    if (stat(name, &file) == 0 && S_ISDIR(file.st_mode)) {
        status = try_folder(name);
        if (status == TAMIS_ENOTFOUND)
            return tamisi_fail(TAMIS_ECOMPILE, "no NVRTC in the folder named by TAMIS_LIBNVRTC: %s", name);
    } else {
        status = try_file(name);
        if (status == TAMIS_ENOTFOUND)
            return tamisi_fail(TAMIS_ECOMPILE, "no NVRTC where TAMIS_LIBNVRTC says: %s", name);
    }
    return status;
}

static tamis_status find(void)
{
    const char *override = getenv("TAMIS_LIBNVRTC");
    if (override && *override) return try_override(override);
    const char *const folders[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
    tamis_status worst = TAMIS_ENOTFOUND;
    for (size_t i = 0; i < COUNT(sonames) + COUNT(folders); i++) {
        const char *folder = i < COUNT(sonames) ? NULL : folders[i - COUNT(sonames)];
        if (i >= COUNT(sonames) && (!folder || !*folder)) continue;
        const tamis_status status = folder ? try_folder(folder) : try_file(sonames[i]);
        if (status == TAMIS_OK) return status;
        if (status != TAMIS_ENOTFOUND) worst = status;
    }
    if (worst != TAMIS_ENOTFOUND) return worst;
    return tamisi_fail(TAMIS_ECOMPILE, "no NVRTC: tried %s and %s, and the folders in CUDA_HOME, CUDA_PATH and "
                                       "/usr/local/cuda; TAMIS_LIBNVRTC may name one",
                       sonames[0], sonames[1]);
}

static void open_once(void)
{
    nvrtc.status = find();
    if (nvrtc.status != TAMIS_OK) snprintf(nvrtc.message, sizeof nvrtc.message, "%s", tamis_last_error());
    else tamisi_error_clear(); /* of places that were tried in vain */
}

tamis_status tamisi_nvrtc_get(const struct tamisi_nvrtc **out)
{
    pthread_once(&nvrtc.once, open_once);
    if (nvrtc.status != TAMIS_OK) return tamisi_fail(nvrtc.status, "%s", nvrtc.message);
    *out = &nvrtc.table;
    return TAMIS_OK;
}
