/*
 * tune_build.c: see tune_build.h.
 */
#define _GNU_SOURCE
#include "tune_build.h"

#include "driver.h"
#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* build.h's callbacks have no payload where they are asked to stop: one build of this kind runs in a process. */
static struct tune_build *running;

/* ---- what is built */

static tamis_status add_variant(struct space *space, tamis_store *store, const struct tamisi_variant *variant)
{
    struct space_variant *added = &space->variants[space->variant_count];
    struct tamisi_buf text = TAMISI_BUF_INIT;
    TAMIS_TRY(tamisi_store_get_source(&text, store, &variant->source));
    memset(added, 0, sizeof *added);
    added->variant = *variant;
    added->text = tamisi_buf_take(&text);
    added->lined = added->text ? strdup(added->text) : NULL;
    space->variant_count++;
    return added->text && added->lined ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for the sources");
}

/* Plans take the defaults of all families beside the one that is timed: they go first. */
static tamis_status make_space(struct space *space, tamis_store *store, const struct tamisi_variant *variants, size_t count)
{
    space->variants = calloc(count + 1, sizeof *space->variants);
    if (!space->variants) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu candidates", count);
    for (int defaults = 1; defaults >= 0; defaults--)
        for (size_t i = 0; i < count; i++)
            if ((variants[i].rank == 0) == (defaults == 1)) TAMIS_TRY(add_variant(space, store, &variants[i]));
    return TAMIS_OK;
}

/* ---- the thread */

static bool is_stopped(void)
{
    pthread_mutex_lock(&running->lock);
    const bool stop = running->stop;
    pthread_mutex_unlock(&running->lock);
    return stop;
}

/* Called after each job, by the thread that did it: those whose state is final are told to whoever waits. */
static void on_progress(void *payload, size_t done, size_t total, const char *name)
{
    struct tune_build *build = payload;
    (void)done, (void)total;
    pthread_mutex_lock(&build->lock);
    for (size_t i = 0; i < build->build.count; i++)
        if (strcmp(build->build.jobs[i].variant->variant.name, name) == 0) build->finished[build->build.jobs[i].same_as] = true;
    pthread_cond_broadcast(&build->changed);
    pthread_mutex_unlock(&build->lock);
}

static void *work(void *payload)
{
    struct tune_build *build = payload;
    const tamis_status status = build_run(&build->build);
    pthread_mutex_lock(&build->lock);
    build->status = status;
    if (status != TAMIS_OK) snprintf(build->error, sizeof build->error, "%s", tamis_last_error());
    build->over = true;
    pthread_cond_broadcast(&build->changed);
    pthread_mutex_unlock(&build->lock);
    return NULL;
}

static tamis_status start_thread(struct tune_build *build, int threads)
{
    const struct tamisi_nvrtc *nvrtc;
    const bool compiler = tamisi_nvrtc_get(&nvrtc) == TAMIS_OK;
    if (!compiler) snprintf(build->error, sizeof build->error, "%s", tamis_last_error());
    build_look_up(&build->build, NULL); /* by whichever compiler: that is what plans take */
    for (size_t i = 0; i < build->build.count; i++) build->finished[i] = build->build.jobs[i].state == BUILD_STORED;
    build->build.threads = threads;
    build->build.stop = is_stopped;
    build->build.progress = on_progress;
    build->build.payload = build;
    build->over = !compiler || build->build.waiting == 0;
    if (build->over) return TAMIS_OK;
    running = build;
    if (pthread_create(&build->thread, NULL, work, build) != 0)
        return tamisi_fail(TAMIS_ENOMEM, "cannot start a thread that compiles");
    build->started = true;
    return TAMIS_OK;
}

tamis_status tune_build_start(struct tune_build *out, tamis_store *store, const struct tamisi_variant *variants, size_t count,
                              int threads)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_init(&out->lock, NULL);
    pthread_cond_init(&out->changed, NULL);
    out->build.store = store;
    tamis_status status = make_space(&out->space, store, variants, count);
    if (status == TAMIS_OK) status = build_add(&out->build, &out->space);
    if (status == TAMIS_OK) {
        out->finished = calloc(out->build.count + 1, sizeof *out->finished);
        if (!out->finished) status = tamisi_fail(TAMIS_ENOMEM, "out of memory for %zu candidates", count);
    }
    return status == TAMIS_OK ? start_thread(out, threads) : status;
}

void tune_build_stop(struct tune_build *build)
{
    if (build->started) {
        pthread_mutex_lock(&build->lock);
        build->stop = true;
        pthread_mutex_unlock(&build->lock);
        pthread_join(build->thread, NULL);
    }
    build_free(&build->build);
    space_free(&build->space);
    free(build->finished);
    build->finished = NULL;
    build->started = false;
}

size_t tune_build_left(struct tune_build *build)
{
    size_t left = 0;
    pthread_mutex_lock(&build->lock);
    for (size_t i = 0; i < build->build.count; i++) left += build->build.jobs[i].same_as == i && !build->finished[i];
    pthread_mutex_unlock(&build->lock);
    return left;
}

/* ---- waiting */

#define ASK_MS 50 /* whether to go on waiting */

/* Lock held. False: what is waited for will not be there, or not in time. */
static bool wait_for_change(struct tune_build *build)
{
    struct timespec until;
    if (build->over || (build->call_off && build->call_off(build->payload))) return false;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ASK_MS * 1000000l;
    until.tv_sec += until.tv_nsec / 1000000000l;
    until.tv_nsec %= 1000000000l;
    pthread_cond_timedwait(&build->changed, &build->lock, &until);
    return true;
}

/* Lock held on return: the job of a variant when its outcome is final, NULL where it never will be. */
static const struct build_job *await(struct tune_build *build, const struct tamisi_variant *variant)
{
    for (size_t i = 0; i < build->build.count; i++) {
        const size_t first = build->build.jobs[i].same_as;
        if (!tamisi_hash_equal(&build->build.jobs[i].variant->variant.source, &variant->source)) continue;
        while (!build->finished[first] && wait_for_change(build)) continue;
        return build->finished[first] ? &build->build.jobs[first] : NULL;
    }
    return NULL;
}

/* A plan passes over a default that fails, for others that must then be there. */
static void await_defaults(struct tune_build *build)
{
    bool failed = false;
    for (size_t i = 0; i < build->space.variant_count; i++) {
        const struct tamisi_variant *variant = &build->space.variants[i].variant;
        if (variant->rank > 0 && !failed) continue;
        const struct build_job *job = await(build, variant);
        failed = failed || !job || job->state == BUILD_FAILED;
    }
}

/* The job whose failure ended the build before its time, as by a full disk; NULL: none did. */
static const struct build_job *find_culprit(const struct build *build)
{
    for (size_t i = 0; i < build->count; i++)
        if (build->jobs[i].state == BUILD_FAILED && build->jobs[i].status != TAMIS_ECOMPILE) return &build->jobs[i];
    return NULL;
}

enum tune_verdict tune_build_wait(struct tune_build *build, const struct tamisi_variant *variant,
                                  struct tamisi_resource *resources, int *count, char why[TUNE_WHY])
{
    enum tune_verdict verdict = TUNE_RIGHT;
    pthread_mutex_lock(&build->lock);
    await_defaults(build);
    const struct build_job *job = await(build, variant);
    if (!job && build->over) job = find_culprit(&build->build);
    if (!job || job->state == BUILD_FAILED) {
        const char *error = job && job->error ? job->error : *build->error ? build->error : "compiling was cut short";
        snprintf(why, TUNE_WHY, "%.*s", TUNE_WHY - 1, error);
        verdict = job && job->status == TAMIS_ECOMPILE ? TUNE_REFUSED : TUNE_BROKEN;
        build->broken = job ? job->status : TAMIS_ECOMPILE;
        tamisi_fail(build->broken, "%s is not compiled: %s", variant->name, error);
    } else {
        *count = job->resource_count;
        memcpy(resources, job->resources, (size_t)job->resource_count * sizeof *resources);
    }
    pthread_mutex_unlock(&build->lock);
    return verdict;
}
