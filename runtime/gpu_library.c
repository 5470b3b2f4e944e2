/*
 * gpu_library.c: code that is loaded on a device, shared by the plans of a context: most plans of a host differ in their
 * lengths alone, and take the same variants. A library goes with the last plan that uses it. Layer: below gpu_plan.c.
 */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A driver runs the cubins of its own CUDA major version and older ones: that is the likely reason where it refuses one. */
static tamis_status load(tamisi_cu_library *out, const struct tamisi_cuda *cuda, const struct tamisi_cubin *cubin,
                         const char *name)
{
    int major = 0, minor = 0;
    const tamis_status status = tamisi_cuda_check(
        cuda, cuda->library_load_data(out, cubin->data, NULL, NULL, 0, NULL, NULL, 0), name);
    if (status != TAMIS_ECUDA || sscanf(cubin->nvrtc, "nvrtc %d.%d", &major, &minor) != 2 || major <= cuda->version / 1000)
        return status;
    return tamisi_fail(status, "%s; it was compiled by NVRTC %d.%d, newer than the driver, which supports CUDA %d.%d",
                       tamis_last_error(), major, minor, cuda->version / 1000, cuda->version % 1000 / 10);
}

/* Lock held. */
static struct tamisi_gpu_library *find(const struct tamisi_gpu *gpu, const struct tamisi_hash *source)
{
    struct tamisi_gpu_library *library = gpu->libraries;
    while (library && !tamisi_hash_equal(&library->source, source)) library = library->next;
    if (library) library->users++;
    return library;
}

struct tamisi_gpu_library *tamisi_gpu_library_find(struct tamisi_gpu *gpu, const struct tamisi_hash *source)
{
    pthread_mutex_lock(&gpu->lock);
    struct tamisi_gpu_library *library = find(gpu, source);
    pthread_mutex_unlock(&gpu->lock);
    return library;
}

tamis_status tamisi_gpu_library_load(struct tamisi_gpu_library **out, struct tamisi_gpu *gpu,
                                     const struct tamisi_hash *source, const struct tamisi_cubin *cubin, const char *name)
{
    struct tamisi_gpu_library *made = calloc(1, sizeof *made);
    if (!made) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a plan");
    pthread_mutex_lock(&gpu->lock);
    *out = find(gpu, source); /* another thread may have been faster */
    tamis_status status = *out ? TAMIS_OK : load(&made->handle, gpu->cuda, cubin, name);
    if (!*out && status == TAMIS_OK) {
        made->source = *source;
        made->users = 1;
        made->resource_count = cubin->resource_count;
        memcpy(made->resources, cubin->resources, sizeof made->resources);
        made->next = gpu->libraries;
        gpu->libraries = *out = made;
        made = NULL;
    }
    pthread_mutex_unlock(&gpu->lock);
    free(made);
    return status;
}

void tamisi_gpu_library_release(struct tamisi_gpu *gpu, struct tamisi_gpu_library *library)
{
    if (!library) return;
    pthread_mutex_lock(&gpu->lock);
    struct tamisi_gpu_library **at = &gpu->libraries;
    const bool last = --library->users == 0;
    while (last && *at != library) at = &(*at)->next;
    if (last) {
        *at = library->next;
        gpu->cuda->library_unload(library->handle);
    }
    pthread_mutex_unlock(&gpu->lock);
    if (last) free(library);
}
