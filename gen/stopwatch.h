/*
 * stopwatch.h: time between points of a stream: CUDA events on a GPU, the monotonic clock on the CPU. Layer: above driver
 * and gpu.h, below runner.
 */
#ifndef STOPWATCH_H
#define STOPWATCH_H

#include "driver.h"
#include "tamis.h"

#define STOPWATCH_MARKS 8

struct stopwatch {
    tamis_context *context;
    const struct tamisi_cuda *cuda; /* NULL: the CPU */
    tamisi_cu_event events[STOPWATCH_MARKS];
    double seconds[STOPWATCH_MARKS];
    int count; /* marks set */
};

tamis_status stopwatch_open(struct stopwatch *watch, tamis_context *context); /* on failure nothing is left to close */
void stopwatch_close(struct stopwatch *watch);
tamis_status stopwatch_mark(struct stopwatch *watch, tamis_stream stream);
/* Milliseconds between each mark and the next; waits for the last one. */
tamis_status stopwatch_read(struct stopwatch *watch, double *ms);

#endif
