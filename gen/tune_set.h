/*
 * tune_set.h: what `tamis tune` works on: a spec's variants in a store for one architecture, generated where the store lacks
 * them. Layer: above space and the store, below cmd_tune.c.
 */
#ifndef TUNE_SET_H
#define TUNE_SET_H

#include "bench_options.h"
#include "store.h"

struct tune_set {
    char spec[64];
    tamis_problem problem;
    tamis_pattern pattern; /* kind NONE: the spec has none */
    double ratios[BENCH_MAX_LIST]; /* that the spec wants tuned */
    int ratio_count;
    struct tamisi_variant *variants; /* owned, by rank */
    size_t count;
};

/*
 * `name`: a spec of the store, a file, or one of specs/; NULL: the store's only one. What the store lacks of its own spec for
 * `arch` is generated from the text that it has of it, which stays as it is. An exit code, the message printed.
 */
int tune_set_open(struct tune_set *out, struct cli *cli, tamis_store *store, const char *name, const char *arch);
void tune_set_free(struct tune_set *set);

#endif
