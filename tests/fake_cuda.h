/*
 * fake_cuda.h: how tests steer and question fake_cuda.c, the libcuda that is none. The library is opened by the code under
 * test through TAMIS_LIBCUDA; a test opens the same file (TAMIS_FAKE_CUDA) and looks these functions up by name.
 *
 * The environment, read when the library is opened:
 *   FAKE_CUDA_DEVICES  how many GPUs (1); 0: cuInit fails
 *   FAKE_CUDA_CC       their compute capability ("9.0")
 *   FAKE_CUDA_VERSION  cuDriverGetVersion (13000); -34: it fails with 34
 *   FAKE_CUDA_MEMORY   bytes that each GPU has (80 GiB)
 *   FAKE_CUDA_SMS      its SMs (132)
 *   FAKE_CUDA_MISSING  kernels whose name contains this are not found
 *   FAKE_CUDA_FAIL     "cuMemAlloc_v2:3:2": its 3rd call fails with 2; several, separated by commas; "*" is any function
 */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

/* What is open now, and what was done wrong. All but calls, launches and maps must be 0 when everything is closed. */
struct fake_cuda_counts {
    long calls;    /* that can fail; see fake_cuda_fail */
    long launches; /* that were accepted */
    long maps;     /* tensor maps that were made */
    long blocking; /* calls that wait for the GPU, or may: memory and code that come and go, synchronisation */
    long retained; /* primary contexts, by reference */
    long pushed;   /* contexts on the stacks of all threads */
    long libraries, streams, events, allocations;
    long reclaimed;   /* streams, events and allocations that ended with their context */
    long misuses;     /* calls that a driver answers with an error, or with a crash */
    char misuse[160]; /* the first of them */
    char failed[48];  /* the function that was last made to fail; "" if none was since fake_cuda_fail */
};

struct fake_cuda_launch {
    const char *symbol;
    const char *image; /* the start of the library's data, up to its first zero byte */
    unsigned grid[3], block[3];
    unsigned cluster[3]; /* blocks of the grid that are one cluster; 1 each where the launch says nothing */
    unsigned shared_bytes;
    void *stream;
    void **params;
    bool starts_early; /* while the kernel before it ends */
    unsigned long long cleared; /* what the stream was last told to set to zeros since the launch before; 0: nothing */
    size_t cleared_bytes;
};

/* What the fake writes into a tensor map in place of what the engine would understand: how the map was asked for. */
struct fake_cuda_map {
    unsigned long long mark; /* FAKE_CUDA_MAP */
    const void *address;
    unsigned long long sizes[5], strides[4]; /* in elements, in bytes; zeros past the rank */
    unsigned short box[5];
    unsigned char steps[5], rank, type, swizzle, promotion;
};
#define FAKE_CUDA_MAP 0x54656e736f724d61ull

typedef void fake_cuda_counts_fn(struct fake_cuda_counts *out);
typedef void fake_cuda_fail_fn(const char *function, long nth, int code); /* counted from now; NULL: no failures any more */
typedef void fake_cuda_watch_fn(void (*watch)(void *payload, const struct fake_cuda_launch *launch), void *payload);

/* Addresses that count as allocated, of which nothing is read or written; those given before no longer do. */
typedef void fake_cuda_assume_fn(const void *address, size_t bytes);

TAMIS_API fake_cuda_counts_fn fake_cuda_counts;
TAMIS_API fake_cuda_fail_fn fake_cuda_fail;
TAMIS_API fake_cuda_assume_fn fake_cuda_assume;
TAMIS_API fake_cuda_watch_fn fake_cuda_watch; /* called for each accepted launch, on the launching thread */

#endif
