/*
 * cpu_threads.h: the CPU backend's workers: run a function over 0..count-1 on all of them and the caller, and return when
 * all is done. Several callers may use one pool at once. The functions must not start such a loop themselves.
 *
 * Which thread runs which index is left to chance, so each index must write its own part of the result only; then results
 * do not depend on the number of threads. Nothing is allocated by running.
 */
#ifndef TAMISI_CPU_THREADS_H
#define TAMISI_CPU_THREADS_H

#include "tamis.h"

#define TAMISI_CPU_THREADS_MAX 1024

struct tamisi_cpu_threads;

typedef void (*tamisi_cpu_fn)(void *work, long long index);

/*
 * `count` threads, the caller's included; 0: one per online core. Threads that the system refuses are done without: with
 * none at all the caller does the work. TAMIS_ENOMEM.
 */
tamis_status tamisi_cpu_threads_create(struct tamisi_cpu_threads **out, int count);
void tamisi_cpu_threads_free(struct tamisi_cpu_threads *threads);
int tamisi_cpu_threads_count(const struct tamisi_cpu_threads *threads); /* the caller's included */

void tamisi_cpu_threads_run(struct tamisi_cpu_threads *threads, long long count, tamisi_cpu_fn fn, void *work);

#endif
