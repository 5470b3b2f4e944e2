/*
 * gpu_drift.c: representation drift on a GPU: its kernel, which is of no plan, found in the store, loaded and launched. Layer:
 * above gpu_plan.c, which gets cubins.
 */
#include "drift.h"
#include "gpu.h"

#include <stdlib.h>
#include <string.h>

/* drift->state. */
struct loaded {
    struct tamisi_gpu_library *library;
    struct tamisi_kernel kernel;
};

/* The store's best variant. A store that was made before there was this kernel has none. */
static tamis_status find_variant(struct tamisi_variant *out, const tamis_drift *drift, tamis_store *store)
{
    const struct tamisi_gpu *gpu = drift->context->state;
    const struct tamisi_variant_query query = {.family = "drift", .arch = gpu->arch, .dtype = (int)drift->dtype,
                                               .head_dim = -1};
    struct tamisi_variant *variants = NULL;
    size_t count = 0, at = 0;
    TAMIS_TRY(tamisi_store_find_variants(&variants, &count, store, &query));
    while (at < count && variants[at].abi != TAMIS_KERNEL_ABI) at++;
    const bool found = at < count && variants[at].entry_count == 1 && strcmp(variants[at].entries[0].stage, "drift") == 0;
    if (found) *out = variants[at];
    free(variants);
    if (found) return TAMIS_OK;
    return tamisi_fail(TAMIS_ENOTFOUND, "%s: no drift kernel for %s, %s: run tamis gen again", tamisi_store_path(store),
                       drift->dtype == TAMIS_BF16 ? "bf16" : "fp16", gpu->arch);
}

static tamis_status load(struct loaded *loaded, const tamis_drift *drift, tamis_store *store)
{
    const struct tamisi_cuda *cuda = ((const struct tamisi_gpu *)drift->context->state)->cuda;
    const tamis_plan asked = {.context = drift->context, .options = TAMIS_PLAN_OPTIONS_INIT}; /* as a plan by default would */
    struct tamisi_variant variant;
    tamisi_cu_kernel handle;
    TAMIS_TRY(find_variant(&variant, drift, store));
    loaded->kernel.entry = variant.entries[0];
    const char *symbol = loaded->kernel.entry.symbol;
    TAMIS_TRY(tamisi_gpu_library_get(&loaded->library, &asked, store, &variant));
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->library_get_kernel(&handle, loaded->library->handle, symbol), symbol));
    return tamisi_cuda_check(cuda, cuda->kernel_get_function(&loaded->kernel.function, handle), symbol);
}

tamis_status tamisi_gpu_drift_open(tamis_drift *drift, tamis_store *store)
{
    struct loaded *loaded = calloc(1, sizeof *loaded);
    if (!loaded) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a drift");
    drift->state = loaded;
    tamis_status status = tamisi_gpu_enter(drift->context);
    if (status == TAMIS_OK) {
        status = load(loaded, drift, store);
        tamisi_gpu_leave(drift->context);
    }
    if (status != TAMIS_OK) tamisi_gpu_drift_close(drift);
    return status;
}

void tamisi_gpu_drift_close(tamis_drift *drift)
{
    struct loaded *loaded = drift->state;
    if (!loaded) return;
    tamisi_gpu_library_release(drift->context->state, loaded->library);
    free(loaded);
    drift->state = NULL;
}

tamis_status tamisi_gpu_drift_reset(const tamis_drift *drift, void *state, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((const struct tamisi_gpu *)drift->context->state)->cuda;
    TAMIS_TRY(tamisi_gpu_enter(drift->context));
    const tamis_status status = tamisi_cuda_check(
        cuda, cuda->memset_d8_async((tamisi_cu_deviceptr)(uintptr_t)state, 0, tamis_drift_state_bytes(drift), stream),
        "cannot clear the drift's state");
    tamisi_gpu_leave(drift->context);
    return status;
}

/* Not launched to overlap with the kernel before it, which is the host's. */
static tamis_status launch(const tamis_drift *drift, struct tamis_drift_args *args, tamis_stream stream)
{
    const struct tamisi_cuda *cuda = ((const struct tamisi_gpu *)drift->context->state)->cuda;
    const struct tamisi_kernel *kernel = &((const struct loaded *)drift->state)->kernel;
    const struct tamisi_cu_launch launch = {.grid = {TAMIS_DRIFT_BLOCKS, 1, 1},
                                            .block = {(unsigned)kernel->entry.threads, 1, 1},
                                            .shared_bytes = (unsigned)kernel->entry.shared_bytes,
                                            .stream = stream};
    void *params[] = {args};
    return tamisi_cuda_check(cuda, cuda->launch_kernel(&launch, kernel->function, params, NULL), kernel->entry.symbol);
}

tamis_status tamisi_gpu_drift_add(const tamis_drift *drift, struct tamisi_drift_layer *layer,
                                  const struct tamisi_drift_rows *given, tamis_stream stream)
{
    struct tamis_drift_args args = {.h_in = given->h_in,
                                    .h_out = given->h_out,
                                    .in_stride = given->in_stride,
                                    .out_stride = given->out_stride,
                                    .rows = given->rows,
                                    .width = drift->width,
                                    .sums = layer->sums, /* addresses of the device's: nothing is read here */
                                    .counted = &layer->counted};
    TAMIS_TRY(tamisi_gpu_enter(drift->context));
    const tamis_status status = launch(drift, &args, stream);
    tamisi_gpu_leave(drift->context);
    return status;
}
