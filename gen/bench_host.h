/*
 * bench_host.h: what the library costs the host's own time: opening a store, a plan and the first launch in a process that
 * has done nothing before, then plans, calls and graph replays once all is warm. Layer: above the runtime, below
 * cmd_bench_host.c.
 */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include "tamis.h"

struct bench_host_figure {
    double start_ms;  /* CUDA's own: its library opened and initialised, and a context on the GPU; nothing of a store */
    double open_ms;   /* of the store, the first time in this process */
    double plan_ms;   /* the same: kernels read, and loaded into the context */
    double launch_ms; /* the first tamis_run, until it returns: all is on the stream */
    double replan_ms; /* a plan of the same problem again; the median */
    double run_us; /* a tamis_run until it returns, onto a stream that has nothing to do; the median */
    double busy_run_us; /* the same onto a stream that still works on earlier calls */
    double replay_us; /* run_us of a CUDA graph that holds one */
    char gpu[128];
};

/*
 * The first four are one sample a process: call it once, where CUDA was not used before. Kernels are not compiled: one that is
 * missing is TAMIS_ENOTFOUND. `calls`: of which the last three are medians. No result is looked at: inputs are zeros.
 */
tamis_status bench_host_measure(struct bench_host_figure *out, const char *store, int device, const tamis_problem *problem,
                                int calls);

/* The same in a child process of its own, whose failure becomes the caller's. */
tamis_status bench_host_fork(struct bench_host_figure *out, const char *store, int device, const tamis_problem *problem,
                             int calls);

#endif
