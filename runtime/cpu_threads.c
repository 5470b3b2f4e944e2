/*
 * cpu_threads.c: a pool of sleeping workers and a list of loops that callers have started. A loop lives on its caller's
 * stack and is on the list while it has indices to give out; the caller always works on its own loop, so that it ends
 * even when every worker is busy elsewhere. A forked child has no workers, and a lock of unknown state: it works alone.
 */
#define _GNU_SOURCE
#include "cpu_threads.h"

#include "error.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define STACK_BYTES (1u << 20) /* a tile of doubles takes some 200 KiB */

struct loop {
    tamisi_cpu_fn fn;
    void *work;
    long long count;
    atomic_llong next;   /* the index to give out next; past count when all are given */
    int helpers;         /* workers inside; under the pool's lock */
    pthread_cond_t done; /* helpers is 0 */
    struct loop *follow; /* in the list */
};

struct tamisi_cpu_threads {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct loop *loops; /* newest first */
    bool stop;
    pid_t owner; /* the process that has the workers */
    int workers;
    pthread_t handles[];
};

static void work_on(struct loop *loop)
{
    for (;;) {
        const long long index = atomic_fetch_add_explicit(&loop->next, 1, memory_order_relaxed);
        if (index >= loop->count) return;
        loop->fn(loop->work, index);
    }
}

/* Under the lock. Leaving the list twice is harmless: whoever finds the loop exhausted takes it off. */
static void take_off(struct tamisi_cpu_threads *threads, const struct loop *loop)
{
    for (struct loop **at = &threads->loops; *at; at = &(*at)->follow)
        if (*at == loop) {
            *at = loop->follow;
            return;
        }
}

static void *worker(void *argument)
{
    struct tamisi_cpu_threads *threads = argument;
    pthread_mutex_lock(&threads->lock);
    while (!threads->stop) {
        struct loop *loop = threads->loops;
        if (!loop) {
            pthread_cond_wait(&threads->wake, &threads->lock);
            continue;
        }
        loop->helpers++;
        pthread_mutex_unlock(&threads->lock);
        work_on(loop);
        pthread_mutex_lock(&threads->lock);
        take_off(threads, loop);
        if (--loop->helpers == 0) pthread_cond_signal(&loop->done);
    }
    pthread_mutex_unlock(&threads->lock);
    return NULL;
}

/* Start workers with every signal blocked, so that the host's handlers run on the host's own threads. */
static void start_workers(struct tamisi_cpu_threads *threads, int count)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (threads->workers < count &&
           pthread_create(&threads->handles[threads->workers], &attributes, worker, threads) == 0)
        threads->workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

tamis_status tamisi_cpu_threads_create(struct tamisi_cpu_threads **out, int count)
{
    if (count == 0) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online < 1 ? 1 : online > TAMISI_CPU_THREADS_MAX ? TAMISI_CPU_THREADS_MAX : (int)online;
    }
    const size_t workers = (size_t)count - 1;
    struct tamisi_cpu_threads *threads = calloc(1, sizeof *threads + workers * sizeof(pthread_t));
    if (!threads) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %d threads", count);
    pthread_mutex_init(&threads->lock, NULL); /* neither can fail on Linux with default attributes */
    pthread_cond_init(&threads->wake, NULL);
    threads->owner = getpid();
    start_workers(threads, (int)workers);
    *out = threads;
    return TAMIS_OK;
}

void tamisi_cpu_threads_free(struct tamisi_cpu_threads *threads)
{
    if (!threads || threads->owner != getpid()) {
        free(threads);
        return;
    }
    pthread_mutex_lock(&threads->lock);
    threads->stop = true;
    pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->lock);
    for (int i = 0; i < threads->workers; i++) pthread_join(threads->handles[i], NULL);
    pthread_cond_destroy(&threads->wake);
    pthread_mutex_destroy(&threads->lock);
    free(threads);
}

int tamisi_cpu_threads_count(const struct tamisi_cpu_threads *threads) { return threads->workers + 1; }

void tamisi_cpu_threads_run(struct tamisi_cpu_threads *threads, long long count, tamisi_cpu_fn fn, void *work)
{
    struct loop loop = {.fn = fn, .work = work, .count = count};
    atomic_init(&loop.next, 0);
    if (threads->workers == 0 || count < 2 || threads->owner != getpid()) {
        work_on(&loop);
        return;
    }
    pthread_cond_init(&loop.done, NULL);
    pthread_mutex_lock(&threads->lock);
    loop.follow = threads->loops;
    threads->loops = &loop;
    pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->lock);

    work_on(&loop);

    pthread_mutex_lock(&threads->lock);
    take_off(threads, &loop);
    while (loop.helpers > 0) pthread_cond_wait(&loop.done, &threads->lock);
    pthread_mutex_unlock(&threads->lock);
    pthread_cond_destroy(&loop.done);
}
