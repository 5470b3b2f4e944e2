/*
 * check_alloc.c: see check_alloc.h. No suite.
 */
#define _GNU_SOURCE
#include "check_alloc.h"

#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REPLACED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define REPLACED 1
#endif
#endif

static atomic_llong calls;
static atomic_llong allowed = -1; /* calls until they are refused; -1: never */

#ifndef REPLACED

#pragma GCC visibility push(default) /* shared libraries are to call these too */

/* ISO C has no cast from an object pointer to a function pointer; POSIX promises that copying the bits works. */
#define FIND(function, name)                                                                                               \
    do {                                                                                                                   \
        void *found = dlsym(RTLD_NEXT, name);                                                                              \
        memcpy(&(function), &found, sizeof found);                                                                         \
    } while (0)

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void (*real_free)(void *);

/* What dlsym itself asks for while it looks for the others: given once, never given back. */
static _Alignas(16) unsigned char early[4096];
static size_t early_used;
static _Thread_local bool finding;

static void *early_alloc(size_t bytes)
{
    const size_t begin = early_used;
    if (bytes > sizeof early - begin) return NULL;
    early_used = begin + (bytes + 15) / 16 * 16;
    return early + begin;
}

/* True while the real ones are being looked for. The first call of all comes before there are threads. */
static bool find_real(void)
{
    if (finding) return true;
    if (real_free) return false;
    finding = true;
    FIND(real_malloc, "malloc");
    FIND(real_calloc, "calloc");
    FIND(real_realloc, "realloc");
    FIND(real_aligned_alloc, "aligned_alloc");
    FIND(real_posix_memalign, "posix_memalign");
    FIND(real_free, "free");
    finding = false;
    return false;
}

static bool refused(void)
{
    atomic_fetch_add(&calls, 1);
    if (atomic_load(&allowed) < 0) return false;
    if (atomic_load(&allowed) == 0) {
        errno = ENOMEM;
        return true;
    }
    atomic_fetch_sub(&allowed, 1);
    return false;
}

void *malloc(size_t bytes)
{
    if (find_real()) return early_alloc(bytes);
    return refused() ? NULL : real_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    if (find_real()) return early_alloc(count * bytes);
    return refused() ? NULL : real_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    if (find_real()) return NULL;
    return refused() ? NULL : real_realloc(memory, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    find_real();
    return refused() ? NULL : real_aligned_alloc(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    find_real();
    return refused() ? ENOMEM : real_posix_memalign(out, alignment, bytes);
}

void free(void *memory)
{
    if ((uintptr_t)memory - (uintptr_t)early < sizeof early || find_real()) return;
    real_free(memory);
}

#pragma GCC visibility pop

#endif

bool alloc_counted(void)
{
    const char *preloaded = getenv("LD_PRELOAD"); /* valgrind's way in */
    void *(*volatile allocate)(size_t) = malloc; /* as another file calls it: not inlined */
    const long long before = alloc_count();
    free(allocate(100));
    const bool counted = alloc_count() > before;
#ifndef REPLACED
    ck_assert_msg(counted || (preloaded && strstr(preloaded, "vgpreload")), "allocations are not counted");
#endif
    (void)preloaded;
    return counted;
}

long long alloc_count(void) { return atomic_load(&calls); }

void alloc_refuse(long long passed) { atomic_store(&allowed, passed); }
