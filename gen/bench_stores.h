/*
 * bench_stores.h: where a bench's kernels come from: the stores that its operands name, and one made anew for each spec.
 * Layer: above cli, data and space, below cmd_bench.c.
 */
#ifndef BENCH_STORES_H
#define BENCH_STORES_H

#include "bench_options.h"
#include "device.h"
#include "store.h"

#include <limits.h>

#define BENCH_MAX_STORES 16

struct bench_stores {
    tamis_store *list[BENCH_MAX_STORES];
    bool temporary[BENCH_MAX_STORES]; /* made here, for a spec */
    int count;
    char folder[PATH_MAX]; /* of those; "" if there are none */
    const char *arch, *gpu; /* whose kernels they have, and its name; NULL: the CPU, which has no stores */
};

/* Each operand is a store, or a spec whose kernels for the device are generated into a temporary store. Head dims, where
   none are listed, become those that the stores have attention for, ascending. An exit code; bench_stores_close() is due in
   any case. */
int bench_stores_open(struct bench_stores *out, struct cli *cli, const struct device *device, struct bench_list *head_dims);
void bench_stores_close(struct bench_stores *stores);

/* The first store with attention for this; the first of all where none has it, for a plan to say so; NULL: the CPU. */
tamis_store *bench_stores_find(const struct bench_stores *stores, int head_dim, tamis_dtype dtype);

#endif
