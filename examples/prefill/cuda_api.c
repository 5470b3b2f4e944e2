/*
 * cuda_api.c: see cuda_api.h.
 */
#define _POSIX_C_SOURCE 200809L
#include "cuda_api.h"

#include "prefill.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct symbol {
    const char *name;
    void *out; /* of a function pointer */
};

static void *open_in(const char *folder, const char *const *names)
{
    char path[4096];
    void *library = NULL;
    for (int i = 0; names[i] && !library; i++)
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) < (int)sizeof path)
            library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    return library;
}

static void *open_named(const char *given, const char *const *names)
{
    struct stat info;
    if (stat(given, &info) == 0 && S_ISDIR(info.st_mode)) return open_in(given, names);
    return dlopen(given, RTLD_NOW | RTLD_GLOBAL);
}

static void *open_anywhere(const char *const *names)
{
    const char *const homes[] = {getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda"};
    static const char *const below[] = {"lib64", "lib"};
    void *library = NULL;
    for (int i = 0; names[i] && !library; i++) library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
    for (size_t i = 0; i < 6 && !library; i++) {
        char folder[4096];
        const char *home = homes[i / 2];
        if (home && snprintf(folder, sizeof folder, "%s/%s", home, below[i % 2]) < (int)sizeof folder)
            library = open_in(folder, names);
    }
    return library;
}

static void open_api(const char *what, const char *variable, const char *const *names, const struct symbol *symbols)
{
    const char *given = getenv(variable);
    void *library = given && *given ? open_named(given, names) : open_anywhere(names);
    if (!library) die("%s: cannot be opened (%s): %s names it where it is elsewhere", names[0], dlerror(), variable);
    for (; symbols->name; symbols++) {
        void *address = dlsym(library, symbols->name);
        if (!address) die("%s: has no %s: too old, or none", what, symbols->name);
        memcpy(symbols->out, &address, sizeof address);
    }
}

void cuda_api_open(struct cuda_api *out)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    const struct symbol symbols[] = {{"cuInit", &out->init},
                                     {"cuDeviceGet", &out->device_get},
                                     {"cuDeviceGetAttribute", &out->device_get_attribute},
                                     {"cuDeviceGetName", &out->device_name},
                                     {"cuMemGetInfo_v2", &out->memory_info},
                                     {"cuDevicePrimaryCtxRetain", &out->primary_retain},
                                     {"cuDevicePrimaryCtxRelease_v2", &out->primary_release},
                                     {"cuCtxPushCurrent_v2", &out->push},
                                     {"cuCtxPopCurrent_v2", &out->pop},
                                     {"cuLibraryLoadData", &out->library_load},
                                     {"cuLibraryUnload", &out->library_unload},
                                     {"cuLibraryGetKernel", &out->library_get_kernel},
                                     {"cuKernelGetFunction", &out->kernel_get_function},
                                     {"cuLaunchKernel", &out->launch},
                                     {"cuEventCreate", &out->event_create},
                                     {"cuEventDestroy_v2", &out->event_destroy},
                                     {"cuEventRecord", &out->event_record},
                                     {"cuEventSynchronize", &out->event_synchronize},
                                     {"cuEventElapsedTime", &out->event_elapsed},
                                     {"cuGetErrorName", &out->error_name},
                                     {NULL, NULL}};
    open_api("the CUDA driver", "TAMIS_LIBCUDA", names, symbols);
}

void nvrtc_api_open(struct nvrtc_api *out)
{
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", NULL};
    const struct symbol symbols[] = {{"nvrtcCreateProgram", &out->create},   {"nvrtcCompileProgram", &out->compile},
                                     {"nvrtcDestroyProgram", &out->destroy}, {"nvrtcGetProgramLogSize", &out->log_size},
                                     {"nvrtcGetProgramLog", &out->log},      {"nvrtcGetCUBINSize", &out->cubin_size},
                                     {"nvrtcGetCUBIN", &out->cubin},         {NULL, NULL}};
    open_api("NVRTC", "TAMIS_LIBNVRTC", names, symbols);
}

void cublas_api_open(struct cublas_api *out)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so", NULL};
    const struct symbol symbols[] = {{"cublasCreate_v2", &out->create},
                                     {"cublasDestroy_v2", &out->destroy},
                                     {"cublasSetStream_v2", &out->set_stream},
                                     {"cublasSetMathMode", &out->set_math_mode},
                                     {"cublasGemmEx", &out->gemm},
                                     {NULL, NULL}};
    open_api("cuBLAS", "TAMIS_LIBCUBLAS", names, symbols);
}
