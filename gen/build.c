/*
 * build.c: jobs handed to threads one by one. Each result goes to the store at once, so that an interrupted build has lost
 * nothing but what was being compiled.
 */
#define _GNU_SOURCE
#include "build.h"

#include "driver.h"
#include "error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 64 /* a compile takes some hundred megabytes at times */

static bool same_kernel(const struct tamisi_variant *a, const struct tamisi_variant *b)
{
    return tamisi_hash_equal(&a->source, &b->source) && strcmp(a->arch, b->arch) == 0;
}

tamis_status build_add(struct build *build, const struct space *space)
{
    const size_t count = build->count + space->variant_count;
    struct build_job *grown = realloc(build->jobs, (count + 1) * sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu kernels", count);
    build->jobs = grown;
    for (size_t i = build->count; i < count; i++) {
        grown[i] = (struct build_job){.variant = &space->variants[i - build->count], .same_as = i};
        for (size_t j = 0; j < i && grown[i].same_as == i; j++)
            if (same_kernel(&grown[j].variant->variant, &grown[i].variant->variant)) grown[i].same_as = j;
    }
    build->count = count;
    return TAMIS_OK;
}

static void set_resources(struct build_job *job, const struct tamisi_resource *resources, int count)
{
    memcpy(job->resources, resources, (size_t)count * sizeof *resources);
    job->resource_count = count;
}

/* Jobs that are the same as another take its outcome; messages stay with the first. */
static void copy_outcomes(struct build *build)
{
    for (size_t i = 0; i < build->count; i++) {
        struct build_job *job = &build->jobs[i];
        const struct build_job *first = &build->jobs[job->same_as];
        if (first == job) continue;
        job->state = first->state;
        job->status = first->status;
        set_resources(job, first->resources, first->resource_count);
    }
}

void build_look_up(struct build *build, const char *nvrtc_identity)
{
    build->waiting = 0;
    for (size_t i = 0; i < build->count; i++) {
        struct build_job *job = &build->jobs[i];
        const struct tamisi_variant *variant = &job->variant->variant;
        char options[TAMISI_OPTIONS_SIZE];
        struct tamisi_cubin cubin;
        if (job->same_as != i || job->state != BUILD_WAITING) continue;
        tamisi_compile_options(options, variant->arch);
        if (!build->store || tamisi_store_get_cubin(&cubin, build->store, &variant->source, variant->arch, options,
                                                    nvrtc_identity) != TAMIS_OK) {
            build->waiting++;
            continue;
        }
        job->state = BUILD_STORED;
        set_resources(job, cubin.resources, cubin.resource_count);
        tamisi_cubin_free(&cubin);
    }
    copy_outcomes(build);
}

/* ---- compiling */

struct crew {
    struct build *build;
    const struct tamisi_nvrtc *nvrtc;
    pthread_mutex_t lock;
    size_t next;
    bool broken; /* the store takes no more: going on would be in vain */
};

static tamis_status compile_job(const struct crew *crew, struct build_job *job)
{
    const struct tamisi_variant *variant = &job->variant->variant;
    tamis_store *store = crew->build->store;
    char options[TAMISI_OPTIONS_SIZE];
    struct tamisi_compiled compiled = {0};
    TAMIS_TRY(tamisi_compile(&compiled, variant->name, job->variant->lined, variant->arch));
    tamisi_compile_options(options, variant->arch);
    tamis_status status = TAMIS_OK;
    if (store)
        status = tamisi_store_put_cubin(store, &variant->source, variant->arch, options, crew->nvrtc->identity, &compiled);
    set_resources(job, compiled.resources, compiled.resource_count);
    tamisi_compiled_free(&compiled);
    return status;
}

/* The next job that waits; NULL where there is none, or all shall stop. */
static struct build_job *take_job(struct crew *crew)
{
    struct build *build = crew->build;
    struct build_job *job = NULL;
    pthread_mutex_lock(&crew->lock);
    while (!job && crew->next < build->count && !crew->broken && !(build->stop && build->stop())) {
        struct build_job *candidate = &build->jobs[crew->next++];
        if (candidate->state == BUILD_WAITING && &build->jobs[candidate->same_as] == candidate) job = candidate;
    }
    pthread_mutex_unlock(&crew->lock);
    return job;
}

static void finish_job(struct crew *crew, struct build_job *job, tamis_status status)
{
    struct build *build = crew->build;
    if (status != TAMIS_OK) { /* the message is this thread's: keep it */
        job->error = strdup(tamis_last_error());
        job->detail = strdup(tamis_last_error_detail());
    }
    pthread_mutex_lock(&crew->lock);
    job->status = status;
    job->state = status == TAMIS_OK ? BUILD_DONE : BUILD_FAILED;
    *(status == TAMIS_OK ? &build->done : &build->failed) += 1;
    crew->broken = crew->broken || (status != TAMIS_OK && status != TAMIS_ECOMPILE);
    if (build->progress)
        build->progress(build->payload, build->done + build->failed, build->waiting, job->variant->variant.name);
    pthread_mutex_unlock(&crew->lock);
}

static void *work(void *payload)
{
    struct crew *crew = payload;
    for (struct build_job *job = take_job(crew); job; job = take_job(crew)) finish_job(crew, job, compile_job(crew, job));
    return NULL;
}

int build_threads(const struct build *build)
{
    const int most = build->threads < MAX_THREADS ? build->threads : MAX_THREADS;
    return build->waiting < (size_t)most ? (int)build->waiting : most;
}

tamis_status build_run(struct build *build)
{
    struct crew crew = {.build = build};
    pthread_t threads[MAX_THREADS];
    int started = 0;
    TAMIS_TRY(tamisi_nvrtc_get(&crew.nvrtc));
    pthread_mutex_init(&crew.lock, NULL);
    const int wanted = build_threads(build);
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, work, &crew) == 0) started++;
    work(&crew); /* threads that the system refuses are done without */
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_mutex_destroy(&crew.lock);
    copy_outcomes(build);
    return TAMIS_OK;
}

void build_free(struct build *build)
{
    for (size_t i = 0; i < build->count; i++) {
        free(build->jobs[i].error);
        free(build->jobs[i].detail);
    }
    free(build->jobs);
    build->jobs = NULL;
    build->count = 0;
}
