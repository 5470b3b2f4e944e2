/*
 * stopwatch.c: marks on a stream. Events need their context to be current while they are made and recorded.
 */
#define _GNU_SOURCE
#include "stopwatch.h"

#include "error.h"
#include "gpu.h"

#include <time.h>

void stopwatch_close(struct stopwatch *watch)
{
    if (!watch->cuda || tamisi_gpu_enter(watch->context) != TAMIS_OK) return;
    for (int i = 0; i < STOPWATCH_MARKS; i++)
        if (watch->events[i]) watch->cuda->event_destroy(watch->events[i]);
    tamisi_gpu_leave(watch->context);
}

tamis_status stopwatch_open(struct stopwatch *watch, tamis_context *context)
{
    *watch = (struct stopwatch){.context = context};
    if (context->device == TAMIS_DEVICE_CPU) return TAMIS_OK;
    TAMIS_TRY(tamisi_cuda_get(&watch->cuda));
    TAMIS_TRY(tamisi_gpu_enter(context));
    tamis_status status = TAMIS_OK;
    for (int i = 0; i < STOPWATCH_MARKS && status == TAMIS_OK; i++)
        status = tamisi_cuda_check(watch->cuda, watch->cuda->event_create(&watch->events[i], 0), "cannot make an event");
    tamisi_gpu_leave(context);
    if (status != TAMIS_OK) stopwatch_close(watch);
    return status;
}

tamis_status stopwatch_mark(struct stopwatch *watch, tamis_stream stream)
{
    if (watch->count >= STOPWATCH_MARKS) return tamisi_fail(TAMIS_EINVAL, "more than %d marks", STOPWATCH_MARKS);
    const int mark = watch->count++;
    if (!watch->cuda) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        watch->seconds[mark] = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
        return TAMIS_OK;
    }
    TAMIS_TRY(tamisi_gpu_enter(watch->context));
    const tamis_status status =
        tamisi_cuda_check(watch->cuda, watch->cuda->event_record(watch->events[mark], stream), "cannot record an event");
    tamisi_gpu_leave(watch->context);
    return status;
}

static tamis_status read_events(const struct stopwatch *watch, double *ms)
{
    const struct tamisi_cuda *cuda = watch->cuda;
    TAMIS_TRY(tamisi_cuda_check(cuda, cuda->event_synchronize(watch->events[watch->count - 1]), "the run failed"));
    for (int i = 0; i + 1 < watch->count; i++) {
        float elapsed = 0;
        TAMIS_TRY(tamisi_cuda_check(cuda, cuda->event_elapsed_ms(&elapsed, watch->events[i], watch->events[i + 1]),
                                    "cannot read an event"));
        ms[i] = (double)elapsed;
    }
    return TAMIS_OK;
}

tamis_status stopwatch_read(struct stopwatch *watch, double *ms)
{
    tamis_status status = TAMIS_OK;
    if (!watch->cuda) {
        for (int i = 0; i + 1 < watch->count; i++) ms[i] = 1e3 * (watch->seconds[i + 1] - watch->seconds[i]);
    } else if (watch->count > 1) {
        TAMIS_TRY(tamisi_gpu_enter(watch->context));
        status = read_events(watch, ms);
        tamisi_gpu_leave(watch->context);
    }
    watch->count = 0;
    return status;
}
