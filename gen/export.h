/*
 * export.h: what `tamis export` ships of a store, and the two forms that it takes. Above the runtime's store, new_store and
 * arch_list, below cmd_export.c.
 */
#ifndef EXPORT_H
#define EXPORT_H

#include "arch_list.h"
#include "store.h"

struct export_choice {
    const char *spec; /* NULL: all */
    struct arch_list archs;
    bool defaults_only; /* rank 0 alone */
    bool operator_only; /* no kernels but those of plans, with a block pattern, a map or neither; as of drift */
};

/* What was chosen. */
struct export_set {
    tamis_store *store;
    struct tamisi_spec_row *specs; /* by name */
    size_t spec_count;
    struct tamisi_variant *variants; /* as tamisi_store_find_variants orders them: the better rank first */
    size_t variant_count;
};

/* These return an exit code, with the message printed. */
int export_choose(struct cli *cli, struct export_set *out, tamis_store *store, const struct export_choice *choice);
/* Has every variant its cubin? CLI_COMPILE: no. */
int export_check_cubins(struct cli *cli, const struct export_set *set);
void export_set_free(struct export_set *set);
/* TAMIS_ENOTFOUND: the store has none. */
tamis_status export_get_cubin(struct tamisi_cubin *out, const struct export_set *set,
                              const struct tamisi_variant *variant);

/* export_bundle.c: as a store. */
struct export_counts {
    long long specs, variants, sources, cubins, timings, bytes;
};
int export_bundle(struct cli *cli, const struct export_set *set, const char *path, bool sources_only,
                  struct export_counts *counts);

/* export_c.c: as C sources in a folder that is absent or empty. `prefix` names files and symbols. */
#define EXPORT_PREFIX "tamis_kernels" /* what the launcher's own text has */
bool export_prefix_is_fine(const char *prefix);
int export_c(struct cli *cli, const struct export_set *set, const char *dir, const char *prefix,
             struct export_counts *counts);

/* export_text.c: pure. */

/* `text` with EXPORT_PREFIX as `prefix`, and in capitals as that in capitals. */
void export_rename(struct tamisi_buf *out, const char *text, const char *prefix);
/* A cubin as the definition of an array of 64-bit little-endian words, the last one filled up with zeros. */
void export_words(struct tamisi_buf *out, const char *name, const void *data, size_t bytes);
/* A C string literal, quotes and all. */
void export_literal(struct tamisi_buf *out, const char *text);

#endif
