/*
 * gpu.c: the GPU backend's device side: opening a device, memory, streams, and the table of its stages. Kernels are chosen
 * and loaded in gpu_plan.c and launched in gpu_stages.c.
 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>

/* Architectures that kernels are made for. A device runs those of its own major number up to its own minor. */
static const struct {
    int major, minor;
    const char *arch;
} architectures[] = {{8, 0, "sm_80"},   {8, 6, "sm_86"},   {8, 9, "sm_89"},
                     {9, 0, "sm_90a"}, {10, 0, "sm_100"}, {12, 0, "sm_120"}};

static tamis_status find_arch(struct tamisi_gpu *gpu)
{
    const char *arch = NULL;
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (architectures[i].major == gpu->cc_major && architectures[i].minor <= gpu->cc_minor) arch = architectures[i].arch;
    if (!arch)
        return tamisi_fail(TAMIS_EUNSUPPORTED, "%s has compute capability %d.%d: kernels exist for 8.x, 9.0, 10.x and 12.x",
                           gpu->name, gpu->cc_major, gpu->cc_minor);
    snprintf(gpu->arch, sizeof gpu->arch, "%s", arch);
    gpu->starts_early = gpu->cc_major >= 9 && gpu->cuda->version >= 12030;
    return TAMIS_OK;
}

static tamis_status read_device(struct tamisi_gpu *gpu, int ordinal)
{
    const struct tamisi_cuda *cuda = gpu->cuda;
    int count = 0;
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->device_get_count(&count), "cannot count the GPUs"));
    if (ordinal >= count) return tamisi_fail(TAMIS_ENODEVICE, "no GPU %d: there are %d", ordinal, count);
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->device_get(&gpu->device, ordinal), "cannot open the GPU"));
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->device_get_name(gpu->name, sizeof gpu->name, gpu->device),
                                "cannot read the GPU's name"));
    const struct {
        int attribute;
        int *out;
    } reads[] = {{TAMISI_CU_ATTR_CC_MAJOR, &gpu->cc_major},
                 {TAMISI_CU_ATTR_CC_MINOR, &gpu->cc_minor},
                 {TAMISI_CU_ATTR_SM_COUNT, &gpu->sm_count},
                 {TAMISI_CU_ATTR_L2_BYTES, &gpu->l2_bytes}};
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++)
        TAMIS_TRY(tamisi_cuda_check(cuda, cuda->device_get_attribute(reads[i].out, reads[i].attribute, gpu->device),
                                    "cannot read the GPU's attributes"));
    return TAMIS_OK;
}

static tamis_status gpu_open(tamis_context *context, const tamis_context_options *options)
{
    struct tamisi_gpu *gpu = calloc(1, sizeof *gpu);
    if (!gpu) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a context");
    tamis_status status = tamisi_cuda_get(&gpu->cuda);
    if (status == TAMIS_OK) status = read_device(gpu, options->device);
    if (status == TAMIS_OK) status = find_arch(gpu);
    if (status == TAMIS_OK)
        status = tamisi_cuda_check(gpu->cuda, gpu->cuda->primary_ctx_retain(&gpu->primary, gpu->device),
                                   "cannot open a context on the GPU");
    if (status != TAMIS_OK) {
        free(gpu);
        return status;
    }
    pthread_mutex_init(&gpu->lock, NULL);
    context->state = gpu;
    return TAMIS_OK;
}

static void gpu_close(tamis_context *context)
{
    struct tamisi_gpu *gpu = context->state;
    if (!gpu) return;
    gpu->cuda->primary_ctx_release(gpu->device);
    pthread_mutex_destroy(&gpu->lock);
    free(gpu);
    context->state = NULL;
}

tamis_status tamisi_gpu_enter(const struct tamis_context *context)
{
    const struct tamisi_gpu *gpu = context->state;
    return tamisi_cuda_check(gpu->cuda, gpu->cuda->ctx_push(gpu->primary), "cannot make the GPU's context current");
}

void tamisi_gpu_leave(const struct tamis_context *context)
{
    const struct tamisi_gpu *gpu = context->state;
    tamisi_cu_context popped;
    gpu->cuda->ctx_pop(&popped);
}

/* For what returns no status: the last error is another call's, and stays. */
static bool enter_quietly(const struct tamis_context *context)
{
    const struct tamisi_gpu *gpu = context->state;
    return gpu->cuda->ctx_push(gpu->primary) == 0;
}

static tamis_status memory_alloc(tamis_context *context, void **out, size_t bytes)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    TAMIS_TRY(tamisi_gpu_enter(context));
    tamisi_cu_deviceptr pointer = 0;
    tamis_status status = TAMIS_OK;
    const tamisi_cu_result result = cuda->mem_alloc(&pointer, bytes);
    if (result == TAMISI_CU_ERROR_OUT_OF_MEMORY) {
        size_t free_bytes = 0, total_bytes = 0;
        cuda->mem_get_info(&free_bytes, &total_bytes);
        status = tamisi_fail(TAMIS_ENOMEM, "out of device memory: %zu bytes asked for, %zu of %zu free", bytes, free_bytes,
                             total_bytes);
    } else {
        status = tamisi_cuda_check(cuda, result, "cannot allocate device memory");
    }
    tamisi_gpu_leave(context);
    if (status == TAMIS_OK) *out = (void *)(uintptr_t)pointer;
    return status;
}

static void memory_free(tamis_context *context, void *memory)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    if (!enter_quietly(context)) return;
    cuda->mem_free((tamisi_cu_deviceptr)(uintptr_t)memory);
    tamisi_gpu_leave(context);
}

static tamis_status memory_write(tamis_context *context, void *device, const void *host, size_t bytes, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    TAMIS_TRY(tamisi_gpu_enter(context));
    tamis_status status = tamisi_cuda_check(
        cuda, cuda->memcpy_htod_async((tamisi_cu_deviceptr)(uintptr_t)device, host, bytes, stream), "cannot copy to the GPU");
    if (status == TAMIS_OK)
        status = tamisi_cuda_check(cuda, cuda->stream_synchronize(stream), "copying to the GPU failed");
    tamisi_gpu_leave(context);
    return status;
}

static tamis_status memory_read(tamis_context *context, void *host, const void *device, size_t bytes, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    TAMIS_TRY(tamisi_gpu_enter(context));
    tamis_status status =
        tamisi_cuda_check(cuda, cuda->memcpy_dtoh_async(host, (tamisi_cu_deviceptr)(uintptr_t)device, bytes, stream),
                          "cannot copy from the GPU");
    if (status == TAMIS_OK)
        status = tamisi_cuda_check(cuda, cuda->stream_synchronize(stream), "copying from the GPU failed");
    tamisi_gpu_leave(context);
    return status;
}

static tamis_status stream_create(tamis_context *context, tamis_stream *out)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    const unsigned non_blocking = 1; /* not ordered with the default stream */
    TAMIS_TRY(tamisi_gpu_enter(context));
    const tamis_status status = tamisi_cuda_check(cuda, cuda->stream_create(out, non_blocking), "cannot create a stream");
    tamisi_gpu_leave(context);
    return status;
}

static void stream_free(tamis_context *context, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    if (!enter_quietly(context)) return;
    cuda->stream_destroy(stream);
    tamisi_gpu_leave(context);
}

static tamis_status stream_synchronize(tamis_context *context, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((struct tamisi_gpu *)context->state)->cuda;
    TAMIS_TRY(tamisi_gpu_enter(context));
    const tamis_status status = tamisi_cuda_check(cuda, cuda->stream_synchronize(stream), "work on the GPU failed");
    tamisi_gpu_leave(context);
    return status;
}

const struct tamisi_backend tamisi_backend_gpu = {
    .name = "gpu",
    .open = gpu_open,
    .close = gpu_close,
    .plan_open = tamisi_gpu_plan_open,
    .plan_close = tamisi_gpu_plan_close,
    .describe = tamisi_gpu_describe,
    .maker_bytes = tamisi_gpu_maker_bytes,
    .score = tamisi_gpu_score,
    .select = tamisi_gpu_select,
    .compress = tamisi_gpu_compress,
    .attend = tamisi_gpu_attend,
    .make_blocks = tamisi_gpu_make_blocks,
    .attend_blocks = tamisi_gpu_attend_blocks,
    .decompress = tamisi_gpu_decompress,
    .run = tamisi_gpu_run,
    .memory_alloc = memory_alloc,
    .memory_free = memory_free,
    .memory_write = memory_write,
    .memory_read = memory_read,
    .stream_create = stream_create,
    .stream_free = stream_free,
    .stream_synchronize = stream_synchronize,
    .drift_open = tamisi_gpu_drift_open,
    .drift_close = tamisi_gpu_drift_close,
    .drift_reset = tamisi_gpu_drift_reset,
    .drift_add = tamisi_gpu_drift_add,
};
