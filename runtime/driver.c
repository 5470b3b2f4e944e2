/*
 * driver.c: the CUDA driver's entry points: finding the library, filling the table once a process, naming its errors.
 * Layer: above error and dynamic, below everything that touches a GPU.
 */
#define _POSIX_C_SOURCE 200809L

#include "driver.h"
#include "dynamic.h"
#include "error.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/*
 * The names carry the versions under which the library exports each signature: cuda.h maps cuMemAlloc to cuMemAlloc_v2,
 * while the bare name is the 32-bit interface of CUDA 3.
 */
#define SYMBOL(name, member) {name, offsetof(struct tamisi_cuda, member)}
static const struct tamisi_symbol symbols[] = {
    SYMBOL("cuInit", init),
    SYMBOL("cuGetErrorString", get_error_string),
    SYMBOL("cuGetErrorName", get_error_name),
    SYMBOL("cuDeviceGetCount", device_get_count),
    SYMBOL("cuDeviceGet", device_get),
    SYMBOL("cuDeviceGetName", device_get_name),
    SYMBOL("cuDeviceGetAttribute", device_get_attribute),
    SYMBOL("cuDeviceTotalMem_v2", device_total_mem),
    SYMBOL("cuDeviceGetPCIBusId", device_get_pci_bus_id),
    SYMBOL("cuDevicePrimaryCtxRetain", primary_ctx_retain),
    SYMBOL("cuDevicePrimaryCtxRelease_v2", primary_ctx_release),
    SYMBOL("cuCtxPushCurrent_v2", ctx_push),
    SYMBOL("cuCtxPopCurrent_v2", ctx_pop),
    SYMBOL("cuLibraryLoadData", library_load_data),
    SYMBOL("cuLibraryUnload", library_unload),
    SYMBOL("cuLibraryGetKernel", library_get_kernel),
    SYMBOL("cuKernelGetFunction", kernel_get_function),
    SYMBOL("cuFuncSetAttribute", func_set_attribute),
    SYMBOL("cuFuncGetAttribute", func_get_attribute),
    SYMBOL("cuLaunchKernelEx", launch_kernel),
    SYMBOL("cuMemAlloc_v2", mem_alloc),
    SYMBOL("cuMemFree_v2", mem_free),
    SYMBOL("cuMemGetInfo_v2", mem_get_info),
    SYMBOL("cuMemcpyHtoDAsync_v2", memcpy_htod_async),
    SYMBOL("cuMemcpyDtoHAsync_v2", memcpy_dtoh_async),
    SYMBOL("cuMemsetD8Async", memset_d8_async),
    SYMBOL("cuMemsetD32Async", memset_d32_async),
    SYMBOL("cuStreamCreate", stream_create),
    SYMBOL("cuStreamDestroy_v2", stream_destroy),
    SYMBOL("cuStreamSynchronize", stream_synchronize),
    SYMBOL("cuEventCreate", event_create),
    SYMBOL("cuEventDestroy_v2", event_destroy),
    SYMBOL("cuEventRecord", event_record),
    SYMBOL("cuEventSynchronize", event_synchronize),
    SYMBOL("cuEventElapsedTime", event_elapsed_ms),
    SYMBOL("cuTensorMapEncodeTiled", tensor_map_encode_tiled),
};

#define ERROR_STUB_LIBRARY 34

/* What the one attempt left: a table, or the failure that every caller gets. */
static struct {
    pthread_once_t once;
    struct tamisi_cuda table;
    tamis_status status;
    char message[768];
} cuda = {.once = PTHREAD_ONCE_INIT};

/* NULL and a failure set, or the library. */
static void *open_library(const char **name)
{
    static const char *const usual[] = {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};
    const char *override = getenv("TAMIS_LIBCUDA");
    void *library = NULL;
    if (override && *override) {
        *name = override;
        library = dlopen(override, RTLD_NOW | RTLD_LOCAL);
        if (!library) tamisi_fail(TAMIS_ENODEVICE, "cannot open the CUDA driver named by TAMIS_LIBCUDA: %s", dlerror());
        return library;
    }
    char reason[512] = "";
    for (size_t i = 0; i < sizeof usual / sizeof *usual && !library; i++) {
        *name = usual[i];
        library = dlopen(usual[i], RTLD_NOW | RTLD_LOCAL);
        if (!library && i == 0) snprintf(reason, sizeof reason, "%s", dlerror());
    }
    if (!library) tamisi_fail(TAMIS_ENODEVICE, "no CUDA driver: %s", reason);
    return library;
}

/* The version first: it tells an old driver from a wrong file, and works where cuInit does not. */
static tamis_status read_version(struct tamisi_cuda *table, void *library)
{
    struct {
        tamisi_cu_result (*get)(int *);
    } driver;
    const struct tamisi_symbol symbol = {"cuDriverGetVersion", 0};
    if (tamisi_dynamic_fill(&driver, library, &symbol, 1))
        return tamisi_fail(TAMIS_ENODEVICE, "%s is no CUDA driver: it lacks %s", table->path, symbol.name);
    const tamisi_cu_result result = driver.get(&table->version);
    if (result == ERROR_STUB_LIBRARY)
        return tamisi_fail(TAMIS_ENODEVICE, "%s is no CUDA driver, but a toolkit's stub for linking", table->path);
    if (result != 0) return tamisi_fail(TAMIS_ENODEVICE, "%s: cuDriverGetVersion failed: error %d", table->path, result);
    if (table->version < 12000)
        return tamisi_fail(TAMIS_EUNSUPPORTED, "%s: the driver supports CUDA %d.%d: 12.0 or newer is needed", table->path,
                           table->version / 1000, table->version % 1000 / 10);
    return TAMIS_OK;
}

static tamis_status fill_table(struct tamisi_cuda *table, void *library, const char *name)
{
    tamisi_dynamic_path(table->path, sizeof table->path, library, "cuDriverGetVersion", name);
    TAMIS_TRY(read_version(table, library));
    const char *missing = tamisi_dynamic_fill(table, library, symbols, sizeof symbols / sizeof *symbols);
    if (missing)
        return tamisi_fail(TAMIS_ENODEVICE, "%s (CUDA %d.%d) lacks %s", table->path, table->version / 1000,
                           table->version % 1000 / 10, missing);
    if (tamisi_cuda_check(table, table->init(0), table->path) != TAMIS_OK)
        return tamisi_fail(TAMIS_ENODEVICE, "the CUDA driver finds no usable GPU: %s", tamis_last_error());
    return TAMIS_OK;
}

static void open_once(void)
{
    const char *name = NULL;
    void *library = open_library(&name);
    cuda.status = library ? fill_table(&cuda.table, library, name) : TAMIS_ENODEVICE;
    if (cuda.status == TAMIS_OK) return;
    snprintf(cuda.message, sizeof cuda.message, "%s", tamis_last_error());
    if (library) dlclose(library);
}

tamis_status tamisi_cuda_get(const struct tamisi_cuda **out)
{
    pthread_once(&cuda.once, open_once);
    if (cuda.status != TAMIS_OK) return tamisi_fail(cuda.status, "%s", cuda.message);
    *out = &cuda.table;
    return TAMIS_OK;
}

tamis_status tamisi_cuda_check(const struct tamisi_cuda *table, tamisi_cu_result result, const char *what)
{
    if (result == 0) return TAMIS_OK;
    const char *name = NULL, *text = NULL; /* both stay NULL for a code that this driver does not know */
    table->get_error_name(result, &name);
    table->get_error_string(result, &text);
    const tamis_status status = result == TAMISI_CU_ERROR_OUT_OF_MEMORY ? TAMIS_ENOMEM : TAMIS_ECUDA;
    if (!name || !text) return tamisi_fail(status, "%s: CUDA error %d", what, result);
    return tamisi_fail(status, "%s: %s: %s", what, name, text);
}
