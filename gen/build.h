/*
 * build.h: compiling many kernels on all cores, into a store. Layer: above the runtime's compile and store, below cmd_*.c.
 */
#ifndef BUILD_H
#define BUILD_H

#include "compile.h"
#include "space.h"
#include "store.h"

#include <stdbool.h>

enum build_state {
    BUILD_WAITING,
    BUILD_STORED,  /* the store had it */
    BUILD_DONE,    /* compiled now */
    BUILD_FAILED
};

/* One cubin to be had. */
struct build_job {
    const struct space_variant *variant; /* borrowed */
    size_t same_as;                      /* the first job of the same text and architecture: the one that is compiled */
    enum build_state state;
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
    int resource_count;
    tamis_status status;  /* of a failure, */
    char *error, *detail; /* owned; one line, and the compiler's log */
};

struct build {
    struct build_job *jobs;
    size_t count;
    tamis_store *store; /* NULL: nothing is looked up, nothing kept */
    int threads;
    bool (*stop)(void); /* asked before each job; what runs is finished */
    void (*progress)(void *payload, size_t done, size_t total, const char *name); /* of jobs that wait; any thread */
    void *payload;

    size_t waiting, done, failed; /* jobs, those the same as another not counted */
};

/* Add the variants of a space, which must outlive the build. TAMIS_ENOMEM. */
tamis_status build_add(struct build *build, const struct space *space);
/* Take what the store has, by this compiler or, NULL, by any. */
void build_look_up(struct build *build, const char *nvrtc_identity);
int build_threads(const struct build *build); /* how many build_run() works with: no more than there are jobs for, nor 64 */
/* Compile what waits. A job's failure is the job's; TAMIS_OK but for TAMIS_ECOMPILE where there is no NVRTC. */
tamis_status build_run(struct build *build);
void build_free(struct build *build);

#endif
