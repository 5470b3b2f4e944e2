/*
 * tune_build.h: compiling a tuner's candidates behind its back: a thread of its own starts the build, and whoever wants a
 * candidate waits for it. Layer: above build, below cmd_tune.c.
 */
#ifndef TUNE_BUILD_H
#define TUNE_BUILD_H

#include "build.h"
#include "tune.h"

#include <pthread.h>

struct tune_build {
    struct space space; /* of the store's variants and sources: what is built */
    struct build build;
    bool *finished; /* a job: its outcome is final */
    bool over;      /* the thread has ended */
    bool stop;      /* it is to end */
    bool started;
    tamis_status status; /* of the build as a whole, with */
    char error[256];     /* its message */
    tamis_status broken; /* of the last wait that ended by TUNE_BROKEN: TAMIS_ECOMPILE, or what was wrong with the machine */
    bool (*call_off)(void *payload); /* asked while someone waits: is it in vain? NULL: never */
    void *payload;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/*
 * Start compiling what the store lacks of `variants`, the defaults first. The store must outlive it. Where there is no NVRTC
 * it is only who waits for a candidate that is not compiled who fails: by TUNE_BROKEN, as no candidate is to blame.
 */
tamis_status tune_build_start(struct tune_build *out, tamis_store *store, const struct tamisi_variant *variants, size_t count,
                              int threads);
void tune_build_stop(struct tune_build *build); /* what is being compiled is finished */
size_t tune_build_left(struct tune_build *build); /* kernels that are not compiled yet */

/*
 * Wait for a variant, and for the defaults that its plan takes beside it: struct tune_device's compile. TUNE_BROKEN too where
 * the wait was called off.
 */
enum tune_verdict tune_build_wait(struct tune_build *build, const struct tamisi_variant *variant,
                                  struct tamisi_resource *resources, int *count, char why[TUNE_WHY]);

#endif
