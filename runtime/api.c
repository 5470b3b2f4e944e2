/*
 * api.c: the public functions on contexts, memory and streams, and the version. Top layer: checks what tamis.h demands and
 * hands on to the context's backend. Plans are in api_plan.c, runs and steps in api_run.c, stores in store.c.
 */
#include "api.h"

#include <stdlib.h>

#define TEXT_OF(number) #number
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

uint32_t tamis_version(void) { return TAMIS_VERSION_NUMBER; }

const char *tamis_version_string(void)
{
    return VERSION_TEXT(TAMIS_VERSION_MAJOR, TAMIS_VERSION_MINOR, TAMIS_VERSION_PATCH);
}

/* ---------------------------------------------------------------------------------------------------------- context */

static tamis_status check_context_options(const tamis_context_options *options)
{
    TAMIS_TRY(tamisi_options_check(options, sizeof *options, sizeof *options, "options", "TAMIS_CONTEXT_OPTIONS_INIT"));
    if (options->device < TAMIS_DEVICE_CPU)
        return tamisi_fail(TAMIS_EINVAL, "options.device is %d: it must be a GPU's number or TAMIS_DEVICE_CPU",
                           options->device);
    if (options->precision != TAMIS_FP32 && options->precision != TAMIS_FP64)
        return tamisi_fail(TAMIS_EINVAL, "options.precision is %d: it must be TAMIS_FP32 or TAMIS_FP64",
                           (int)options->precision);
    return TAMIS_OK;
}

tamis_status tamis_context_create(tamis_context **out, const tamis_context_options *options)
{
    static const tamis_context_options defaults = TAMIS_CONTEXT_OPTIONS_INIT;
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    *out = NULL;
    if (!options) options = &defaults;
    TAMIS_TRY(check_context_options(options));

    tamis_context *context = calloc(1, sizeof *context);
    if (!context) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a context");
    context->device = options->device;
    context->log = (struct tamisi_log){options->log, options->log_payload};
    context->backend = options->device == TAMIS_DEVICE_CPU ? &tamisi_backend_cpu : &tamisi_backend_gpu;
    const tamis_status status = context->backend->open(context, options);
    if (status != TAMIS_OK) {
        free(context);
        return status;
    }
    *out = context;
    return TAMIS_OK;
}

void tamis_context_free(tamis_context *context)
{
    if (!context) return;
    context->backend->close(context);
    free(context);
}

/* ----------------------------------------------------------------------------------------------- memory and streams */

tamis_status tamis_memory_alloc(void **out, tamis_context *context, size_t bytes)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    *out = NULL;
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    if (bytes == 0) return tamisi_fail(TAMIS_EINVAL, "bytes is 0");
    return context->backend->memory_alloc(context, out, bytes);
}

void tamis_memory_free(tamis_context *context, void *memory)
{
    if (context && memory) context->backend->memory_free(context, memory);
}

/* Arguments of a copy; nothing to copy needs no pointers. */
static tamis_status check_copy(const tamis_context *context, const void *device, const void *host, size_t bytes,
                               tamis_stream stream)
{
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    TAMIS_TRY(tamisi_check_stream(context, stream));
    if (bytes == 0) return TAMIS_OK;
    TAMIS_TRY(tamisi_check_pointer(device, "device"));
    TAMIS_TRY(tamisi_check_pointer(host, "host"));
    if (bytes > UINTPTR_MAX - (uintptr_t)device || bytes > UINTPTR_MAX - (uintptr_t)host)
        return tamisi_fail(TAMIS_EINVAL, "bytes is %zu: this passes the end of the address space", bytes);
    return TAMIS_OK;
}

tamis_status tamis_memory_write(tamis_context *context, void *device, const void *host, size_t bytes, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_copy(context, device, host, bytes, stream));
    return bytes > 0 ? context->backend->memory_write(context, device, host, bytes, stream) : TAMIS_OK;
}

tamis_status tamis_memory_read(tamis_context *context, void *host, const void *device, size_t bytes, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(check_copy(context, device, host, bytes, stream));
    return bytes > 0 ? context->backend->memory_read(context, host, device, bytes, stream) : TAMIS_OK;
}

tamis_status tamis_stream_create(tamis_stream *out, tamis_context *context)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    *out = NULL;
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    return context->backend->stream_create(context, out);
}

/* The default stream, NULL, is nobody's to free. */
void tamis_stream_free(tamis_context *context, tamis_stream stream)
{
    if (context && stream) context->backend->stream_free(context, stream);
}

tamis_status tamis_stream_synchronize(tamis_context *context, tamis_stream stream)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    TAMIS_TRY(tamisi_check_stream(context, stream));
    return context->backend->stream_synchronize(context, stream);
}
