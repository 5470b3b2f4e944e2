/*
 * fake_cuda_work.c: what the fake libcuda does in a context: libraries and kernels, launches, memory, streams and events.
 */
#define _POSIX_C_SOURCE 200809L

#include "fake_cuda_state.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------- libraries and kernels */

/* A cubin's size is not passed, so no more of it is looked at than a string: up to the first zero byte. */
ENTRY(cuLibraryLoadData, (tamisi_cu_library *out, const void *data, int *jit_options, void **jit_values, unsigned jit_count,
                          int *options, void **values, unsigned count))
{
    tamisi_cu_result result = fake_enter("cuLibraryLoadData");
    (void)jit_options, (void)jit_values, (void)options, (void)values;
    if (result == 0 && (!data || jit_count || count)) result = INVALID_VALUE;
    if (result == 0 && strncmp(data, "bad", 3) == 0) result = INVALID_IMAGE;
    void *code = NULL;
    if (result == 0 && fake.engine) result = fake.engine->load(&code, data);
    if (result == 0) {
        struct object *library = fake_add(LIBRARY, NULL);
        library->code = code;
        snprintf(library->text, sizeof library->text, "%.90s", (const char *)data);
        fake.counts.libraries++;
        *out = (tamisi_cu_library)(void *)library;
    }
    return fake_leave(result);
}

ENTRY(cuLibraryUnload, (tamisi_cu_library handle))
{
    const tamisi_cu_result result = fake_enter("cuLibraryUnload");
    struct object *library = fake_find("cuLibraryUnload", handle, LIBRARY);
    if (!library) return fake_leave(INVALID_HANDLE);
    if (library->code) fake.engine->unload(library->code);
    library->live = false;
    fake.counts.libraries--;
    return fake_leave(result);
}

ENTRY(cuLibraryGetKernel, (tamisi_cu_kernel *out, tamisi_cu_library handle, const char *name))
{
    tamisi_cu_result result = fake_enter("cuLibraryGetKernel");
    struct object *library = fake_find("cuLibraryGetKernel", handle, LIBRARY);
    if (result == 0 && !library) result = INVALID_HANDLE;
    if (result == 0 && fake.missing[0] && strstr(name, fake.missing)) result = NOT_FOUND;
    void *code = result == 0 && library->code ? fake.engine->find(library->code, name) : NULL;
    if (result == 0 && library->code && !code) result = NOT_FOUND;
    if (result == 0) {
        struct object *kernel = fake_add(KERNEL, library);
        kernel->code = code;
        snprintf(kernel->text, sizeof kernel->text, "%s", name);
        kernel->dynamic_shared = 48 * 1024; /* without asking */
        *out = (tamisi_cu_kernel)(void *)kernel;
    }
    return fake_leave(result);
}

ENTRY(cuKernelGetFunction, (tamisi_cu_function *out, tamisi_cu_kernel handle))
{
    tamisi_cu_result result = fake_enter("cuKernelGetFunction");
    struct object *kernel = fake_find("cuKernelGetFunction", handle, KERNEL);
    if (result == 0 && !kernel) result = INVALID_HANDLE;
    if (result == 0 && !fake_context("cuKernelGetFunction")) result = INVALID_CONTEXT;
    if (result == 0) *out = (tamisi_cu_function)(void *)kernel;
    return fake_leave(result);
}

ENTRY(cuFuncSetAttribute, (tamisi_cu_function handle, int attribute, int value))
{
    tamisi_cu_result result = fake_enter("cuFuncSetAttribute");
    struct object *kernel = fake_find("cuFuncSetAttribute", handle, KERNEL);
    if (result == 0 && !kernel) result = INVALID_HANDLE;
    if (result == 0 && !fake_context("cuFuncSetAttribute")) result = INVALID_CONTEXT;
    if (result == 0 &&
        (attribute != TAMISI_CU_FUNC_MAX_DYNAMIC_SHARED || value < 0 || value > fake_shared_limit()))
        result = INVALID_VALUE;
    if (result == 0) kernel->dynamic_shared = value;
    return fake_leave(result);
}

ENTRY(cuFuncGetAttribute, (int *value, int attribute, tamisi_cu_function handle))
{
    tamisi_cu_result result = fake_enter("cuFuncGetAttribute");
    const struct object *kernel = fake_find("cuFuncGetAttribute", handle, KERNEL);
    if (result == 0 && !kernel) result = INVALID_HANDLE;
    if (result == 0 && attribute != TAMISI_CU_FUNC_MAX_DYNAMIC_SHARED) result = INVALID_VALUE;
    if (result == 0) *value = kernel->dynamic_shared;
    return fake_leave(result);
}

/* ------------------------------------------------------------------------------------------------------------ launches */

/* A cluster of more than 8 blocks is not for every GPU. */
static bool cluster_fits(const struct fake_cuda_launch *launch)
{
    const unsigned *cluster = launch->cluster, most = fake.major >= 9 ? 8 : 1;
    bool fits = true;
    for (int i = 0; i < 3; i++) fits = fits && cluster[i] > 0 && cluster[i] <= most && launch->grid[i] % cluster[i] == 0;
    return fits && cluster[0] * cluster[1] * cluster[2] <= most;
}

static bool launch_fits(const struct object *kernel, const struct fake_cuda_launch *launch)
{
    static const unsigned long long grid_limits[] = {0x7fffffff, 65535, 65535}, block_limits[] = {1024, 1024, 64};
    unsigned long long threads = 1;
    bool fits = true;
    for (int i = 0; i < 3; i++) {
        fits = fits && launch->grid[i] > 0 && launch->grid[i] <= grid_limits[i];
        fits = fits && launch->block[i] > 0 && launch->block[i] <= block_limits[i];
        threads *= launch->block[i];
    }
    if (!fits || threads > 1024)
        fake_misuse("launch of %s: grid %u %u %u, block %u %u %u", kernel->text, launch->grid[0], launch->grid[1],
                    launch->grid[2], launch->block[0], launch->block[1], launch->block[2]);
    else if (!cluster_fits(launch))
        fake_misuse("launch of %s: clusters of %u %u %u in a grid of %u %u %u", kernel->text, launch->cluster[0],
                    launch->cluster[1], launch->cluster[2], launch->grid[0], launch->grid[1], launch->grid[2]);
    else if (launch->shared_bytes > (unsigned)kernel->dynamic_shared)
        fake_misuse("launch of %s: %u bytes of shared memory, %d asked for", kernel->text, launch->shared_bytes,
                    kernel->dynamic_shared);
    else if (!launch->params || !launch->params[0])
        fake_misuse("launch of %s: no arguments", kernel->text);
    else
        return true;
    return false;
}

static tamisi_cu_result launch_kernel(const char *name, tamisi_cu_function function, struct fake_cuda_launch *launch,
                                      void **extra)
{
    tamisi_cu_result result = fake_enter(name);
    const struct object *kernel = fake_find(name, function, KERNEL);
    const struct object *context = fake_context(name);
    if (result == 0 && (!kernel || extra)) result = INVALID_HANDLE;
    if (result == 0 && (!context || !fake_stream_fits(name, launch->stream, context))) result = INVALID_CONTEXT;
    if (result != 0) return fake_leave(result);

    launch->symbol = kernel->text;
    launch->image = kernel->parent->text;
    if (!launch_fits(kernel, launch)) return fake_leave(INVALID_VALUE);
    if (fake.cleared.stream == launch->stream) {
        launch->cleared = fake.cleared.address;
        launch->cleared_bytes = fake.cleared.bytes;
    }
    fake.cleared.address = 0;
    fake.cleared.bytes = 0;
    if (kernel->code) result = fake.engine->launch(kernel->code, launch, fake.sms);
    if (result != 0) return fake_leave(result);
    fake.counts.launches++;
    void (*watch)(void *, const struct fake_cuda_launch *) = fake.watch;
    void *payload = fake.watch_payload;
    fake_leave(0);
    if (watch) watch(payload, launch);
    return 0;
}

ENTRY(cuLaunchKernel, (tamisi_cu_function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared_bytes, tamis_stream stream, void **params,
                       void **extra))
{
    struct fake_cuda_launch launch = {.grid = {grid_x, grid_y, grid_z},
                                      .block = {block_x, block_y, block_z},
                                      .cluster = {1, 1, 1},
                                      .shared_bytes = shared_bytes,
                                      .stream = stream,
                                      .params = params};
    return launch_kernel("cuLaunchKernel", function, &launch, extra);
}

ENTRY(cuLaunchKernelEx, (const struct tamisi_cu_launch *config, tamisi_cu_function function, void **params, void **extra))
{
    struct fake_cuda_launch launch = {.cluster = {1, 1, 1},
                                      .shared_bytes = config->shared_bytes,
                                      .stream = config->stream,
                                      .params = params};
    memcpy(launch.grid, config->grid, sizeof launch.grid);
    memcpy(launch.block, config->block, sizeof launch.block);
    for (unsigned i = 0; i < config->attribute_count; i++) {
        const struct tamisi_cu_launch_attribute *attribute = &config->attributes[i];
        launch.starts_early |= attribute->id == TAMISI_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION && attribute->value[0] == 1;
        if (attribute->id == TAMISI_CU_LAUNCH_CLUSTER_DIMENSION)
            memcpy(launch.cluster, attribute->value, sizeof launch.cluster);
    }
    return launch_kernel("cuLaunchKernelEx", function, &launch, extra);
}

/* -------------------------------------------------------------------------------------------------------------- memory */

ENTRY(cuMemAlloc_v2, (tamisi_cu_deviceptr *out, size_t bytes))
{
    tamisi_cu_result result = fake_enter("cuMemAlloc_v2");
    struct object *context = fake_context("cuMemAlloc");
    if (result == 0 && !context) result = INVALID_CONTEXT;
    if (result == 0 && bytes == 0) result = INVALID_VALUE;
    if (result == 0 && bytes > fake.memory - fake.used) result = OUT_OF_MEMORY;
    char *data = result == 0 ? fake_take(bytes) : NULL;
    if (result == 0 && !data) result = OUT_OF_MEMORY;
    if (result == 0) {
        struct object *memory = fake_add(MEMORY, context);
        memory->data = data;
        memory->bytes = bytes;
        fake.used += bytes;
        fake.counts.allocations++;
        *out = (tamisi_cu_deviceptr)(uintptr_t)data;
    }
    return fake_leave(result);
}

ENTRY(cuMemFree_v2, (tamisi_cu_deviceptr address))
{
    tamisi_cu_result result = fake_enter("cuMemFree_v2");
    if (!fake_context("cuMemFree")) return fake_leave(INVALID_CONTEXT);
    for (struct object *object = fake.objects; object; object = object->next)
        if (object->kind == MEMORY && object->live && (tamisi_cu_deviceptr)(uintptr_t)object->data == address) {
            object->live = false;
            fake_give(object->data, object->bytes);
            fake.used -= object->bytes;
            fake.counts.allocations--;
            return fake_leave(result);
        }
    fake_misuse("cuMemFree of what is no allocation, or freed");
    return fake_leave(INVALID_VALUE);
}

ENTRY(cuMemGetInfo_v2, (size_t *available, size_t *total))
{
    tamisi_cu_result result = fake_enter("cuMemGetInfo_v2");
    if (result == 0 && !fake_context("cuMemGetInfo")) result = INVALID_CONTEXT;
    if (result == 0) {
        *available = fake.memory - fake.used;
        *total = fake.memory;
    }
    return fake_leave(result);
}

static bool is_assumed(tamisi_cu_deviceptr address, size_t bytes)
{
    return address >= fake.assumed && bytes <= fake.assumed_bytes && address - fake.assumed <= fake.assumed_bytes - bytes;
}

/* The bytes at `address` for work on a stream, or NULL: with *result set, or where they are only assumed. */
static char *enter_work(const char *function, tamisi_cu_deviceptr address, size_t bytes, const void *stream,
                        tamisi_cu_result *result)
{
    *result = fake_enter(function);
    const struct object *context = fake_context(function);
    if (*result == 0 && (!context || !fake_stream_fits(function, stream, context))) *result = INVALID_CONTEXT;
    if (*result != 0 || is_assumed(address, bytes)) return NULL;
    char *data = fake_memory(function, address, bytes);
    if (!data) *result = INVALID_VALUE;
    return data;
}

ENTRY(cuMemcpyHtoDAsync_v2, (tamisi_cu_deviceptr device, const void *host, size_t bytes, tamis_stream stream))
{
    tamisi_cu_result result;
    char *data = enter_work("cuMemcpyHtoDAsync_v2", device, bytes, stream, &result);
    if (data) memcpy(data, host, bytes);
    return fake_leave(result);
}

ENTRY(cuMemcpyDtoHAsync_v2, (void *host, tamisi_cu_deviceptr device, size_t bytes, tamis_stream stream))
{
    tamisi_cu_result result;
    const char *data = enter_work("cuMemcpyDtoHAsync_v2", device, bytes, stream, &result);
    if (data) memcpy(host, data, bytes);
    return fake_leave(result);
}

static void note_clear(tamisi_cu_deviceptr address, size_t bytes, const void *stream)
{
    fake.cleared.address = address;
    fake.cleared.bytes = bytes;
    fake.cleared.stream = stream;
}

ENTRY(cuMemsetD8Async, (tamisi_cu_deviceptr device, unsigned char value, size_t count, tamis_stream stream))
{
    tamisi_cu_result result;
    char *data = enter_work("cuMemsetD8Async", device, count, stream, &result);
    if (data) memset(data, value, count);
    if (result == 0 && value == 0) note_clear(device, count, stream);
    return fake_leave(result);
}

ENTRY(cuMemsetD32Async, (tamisi_cu_deviceptr device, unsigned value, size_t count, tamis_stream stream))
{
    tamisi_cu_result result;
    char *data = enter_work("cuMemsetD32Async", device, 4 * count, stream, &result);
    for (size_t i = 0; data && i < count; i++) memcpy(data + 4 * i, &value, sizeof value);
    if (result == 0 && value == 0) note_clear(device, 4 * count, stream);
    return fake_leave(result);
}

/* -------------------------------------------------------------------------------------------------- streams and events */

ENTRY(cuStreamCreate, (tamis_stream *out, unsigned flags))
{
    tamisi_cu_result result = fake_enter("cuStreamCreate");
    struct object *context = fake_context("cuStreamCreate");
    if (result == 0 && !context) result = INVALID_CONTEXT;
    if (result == 0 && flags > 1) result = INVALID_VALUE;
    if (result == 0) {
        *out = (tamis_stream)(void *)fake_add(STREAM, context);
        fake.counts.streams++;
    }
    return fake_leave(result);
}

static tamisi_cu_result destroy(const char *function, void *handle, enum kind kind, long *count)
{
    const tamisi_cu_result result = fake_enter(function);
    struct object *object = fake_find(function, handle, kind);
    if (!object) return fake_leave(INVALID_HANDLE);
    object->live = false;
    --*count;
    return fake_leave(result);
}

ENTRY(cuStreamDestroy_v2, (tamis_stream stream))
{
    return destroy("cuStreamDestroy_v2", stream, STREAM, &fake.counts.streams);
}

ENTRY(cuStreamSynchronize, (tamis_stream stream))
{
    tamisi_cu_result result = fake_enter("cuStreamSynchronize");
    const struct object *context = fake_context("cuStreamSynchronize");
    if (result == 0 && (!context || !fake_stream_fits("cuStreamSynchronize", stream, context))) result = INVALID_CONTEXT;
    return fake_leave(result);
}

ENTRY(cuEventCreate, (tamisi_cu_event *out, unsigned flags))
{
    tamisi_cu_result result = fake_enter("cuEventCreate");
    struct object *context = fake_context("cuEventCreate");
    (void)flags;
    if (result == 0 && !context) result = INVALID_CONTEXT;
    if (result == 0) {
        *out = (tamisi_cu_event)(void *)fake_add(EVENT, context);
        fake.counts.events++;
    }
    return fake_leave(result);
}

ENTRY(cuEventDestroy_v2, (tamisi_cu_event event))
{
    return destroy("cuEventDestroy_v2", event, EVENT, &fake.counts.events);
}

ENTRY(cuEventRecord, (tamisi_cu_event event, tamis_stream stream))
{
    tamisi_cu_result result = fake_enter("cuEventRecord");
    const struct object *object = fake_find("cuEventRecord", event, EVENT);
    if (result == 0 && (!object || !fake_stream_fits("cuEventRecord", stream, object->parent))) result = INVALID_HANDLE;
    return fake_leave(result);
}

ENTRY(cuEventSynchronize, (tamisi_cu_event event))
{
    tamisi_cu_result result = fake_enter("cuEventSynchronize");
    if (result == 0 && !fake_find("cuEventSynchronize", event, EVENT)) result = INVALID_HANDLE;
    return fake_leave(result);
}

ENTRY(cuEventElapsedTime, (float *milliseconds, tamisi_cu_event begin, tamisi_cu_event end))
{
    tamisi_cu_result result = fake_enter("cuEventElapsedTime");
    if (result == 0 &&
        (!fake_find("cuEventElapsedTime", begin, EVENT) || !fake_find("cuEventElapsedTime", end, EVENT)))
        result = INVALID_HANDLE;
    if (result == 0) *milliseconds = 1.0f;
    return fake_leave(result);
}

/* -------------------------------------------------------------------------------------------------------------- graphs */

/* What a stream is told while it is captured is done at once all the same; a graph of it does nothing. */
ENTRY(cuStreamBeginCapture_v2, (tamis_stream stream, int mode))
{
    tamisi_cu_result result = fake_enter("cuStreamBeginCapture_v2");
    const struct object *context = fake_context("cuStreamBeginCapture");
    if (result == 0 && (!context || !fake_stream_fits("cuStreamBeginCapture", stream, context))) result = INVALID_CONTEXT;
    if (result == 0 && (mode < 0 || mode > 2)) result = INVALID_VALUE;
    return fake_leave(result);
}

static tamisi_cu_result make_graph(const char *function, void **out)
{
    const tamisi_cu_result result = fake_enter(function);
    if (result == 0) *out = fake_add(GRAPH, NULL);
    return fake_leave(result);
}

static tamisi_cu_result end_graph(const char *function, void *handle)
{
    const tamisi_cu_result result = fake_enter(function);
    struct object *graph = fake_find(function, handle, GRAPH);
    if (!graph) return fake_leave(INVALID_HANDLE);
    graph->live = false;
    return fake_leave(result);
}

ENTRY(cuStreamEndCapture, (tamis_stream stream, void **out))
{
    (void)stream;
    return make_graph("cuStreamEndCapture", out);
}

ENTRY(cuGraphInstantiateWithFlags, (void **out, void *graph, unsigned long long flags))
{
    if (flags != 0 || !graph) return INVALID_VALUE;
    return make_graph("cuGraphInstantiateWithFlags", out);
}

ENTRY(cuGraphLaunch, (void *graph, tamis_stream stream))
{
    tamisi_cu_result result = fake_enter("cuGraphLaunch");
    const struct object *context = fake_context("cuGraphLaunch");
    if (result == 0 && !fake_find("cuGraphLaunch", graph, GRAPH)) result = INVALID_HANDLE;
    if (result == 0 && (!context || !fake_stream_fits("cuGraphLaunch", stream, context))) result = INVALID_CONTEXT;
    return fake_leave(result);
}

ENTRY(cuGraphExecDestroy, (void *graph)) { return end_graph("cuGraphExecDestroy", graph); }

ENTRY(cuGraphDestroy, (void *graph)) { return end_graph("cuGraphDestroy", graph); }

/* --------------------------------------------------------------------------------------------------------- tensor maps */

/* The rules that the driver's documentation gives for tiles without interleave. */
static bool map_fits(const struct tamisi_cu_tensor_map *map, int type, unsigned rank, const void *address,
                     const unsigned long long *sizes, const unsigned long long *strides, const unsigned *box,
                     const unsigned *steps, int swizzle)
{
    const unsigned element = type == TAMISI_CU_TENSOR_FLOAT32 ? 4 : 2;
    const unsigned row_limits[] = {256 * element, 32, 64, 128}; /* of a box's row in bytes, by swizzle */
    if ((uintptr_t)map % 64 != 0 || (uintptr_t)address % 16 != 0 || rank < 1 || rank > 5 || swizzle < 0 || swizzle > 3)
        return false;
    for (unsigned i = 0; i < rank; i++) {
        if (sizes[i] == 0 || sizes[i] > 1ull << 32 || box[i] == 0 || box[i] > 256 || steps[i] == 0 || steps[i] > 8)
            return false;
        if (i + 1 < rank && (strides[i] % 16 != 0 || strides[i] >= 1ull << 40)) return false;
    }
    return box[0] * element % 16 == 0 && box[0] * element <= row_limits[swizzle];
}

ENTRY(cuTensorMapEncodeTiled, (struct tamisi_cu_tensor_map *map, int type, unsigned rank, void *address,
                               const unsigned long long *sizes, const unsigned long long *strides, const unsigned *box,
                               const unsigned *steps, int interleave, int swizzle, int promotion, int fill))
{
    tamisi_cu_result result = fake_enter("cuTensorMapEncodeTiled");
    const bool known = type == TAMISI_CU_TENSOR_UINT16 || type == TAMISI_CU_TENSOR_FLOAT16 ||
                       type == TAMISI_CU_TENSOR_BFLOAT16 || type == TAMISI_CU_TENSOR_FLOAT32;
    if (result == 0 && (!known || interleave != TAMISI_CU_INTERLEAVE_NONE || promotion < 0 ||
                        promotion > TAMISI_CU_L2_PROMOTION_256B || fill != TAMISI_CU_OOB_FILL_NONE ||
                        !map_fits(map, type, rank, address, sizes, strides, box, steps, swizzle))) {
        fake_misuse("cuTensorMapEncodeTiled: a size, stride, box or alignment that it does not take");
        result = INVALID_VALUE;
    }
    if (result == 0) {
        struct fake_cuda_map made = {.mark = FAKE_CUDA_MAP,
                                     .address = address,
                                     .rank = (unsigned char)rank,
                                     .type = (unsigned char)type,
                                     .swizzle = (unsigned char)swizzle,
                                     .promotion = (unsigned char)promotion};
        for (unsigned i = 0; i < rank; i++) {
            made.sizes[i] = sizes[i];
            made.box[i] = (unsigned short)box[i];
            made.steps[i] = (unsigned char)steps[i];
            if (i + 1 < rank) made.strides[i] = strides[i];
        }
        _Static_assert(sizeof made <= sizeof *map, "what is told of a map fits in it");
        memset(map, 0, sizeof *map);
        memcpy(map, &made, sizeof made);
        fake.counts.maps++;
    }
    return fake_leave(result);
}
