/*
 * tune_worker.h: the process that runs candidates, seen from the tuner: started, asked, and killed where it does not answer
 * in time. A candidate that breaks or hangs it costs that process alone: the next question goes to a new one. Layer: above
 * tune_wire, below cmd_tune.c.
 */
#ifndef TUNE_WORKER_H
#define TUNE_WORKER_H

#include "tune_wire.h"

#include <sys/types.h>

struct tune_worker {
    const char *store; /* path */
    int ordinal;       /* of the GPU */
    double limit_s;    /* for an answer */
    pid_t process;     /* 0: none runs */
    int in, out;       /* its ends of ours */
    struct tune_wire_answer hello; /* of the last that was started */
    bool numerics; /* an answer was TUNE_BROKEN for wrong numbers of the default kernels */
};

/* $TAMIS_TUNE_WORKER is started in place of this program, where it is set. TAMIS_ENODEVICE and the like: what it says. */
tamis_status tune_worker_start(struct tune_worker *worker);
void tune_worker_stop(struct tune_worker *worker);

/* The functions of struct tune_device. */
enum tune_verdict tune_worker_check(struct tune_worker *worker, const struct tune_task *task,
                                    const struct tamisi_variant *variant, char why[TUNE_WHY]);
enum tune_verdict tune_worker_time(struct tune_worker *worker, const struct tune_task *task,
                                   const struct tamisi_variant *variant, struct tune_round *out, char why[TUNE_WHY]);

#endif
