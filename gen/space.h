/*
 * space.h: from a spec to its candidate variants, in a fixed order. Pure but for reading templates.
 *
 * For each family, architecture, dtype and head dim of the spec: the product of the values of every matching tile entry, in
 * the order written. Families that do not depend on dtype or head dim have one combination. The first variant that is not
 * rejected is the default (rank 0).
 *
 * Of a spec with output_map, family attend_map comes last: the entries of attend once more, with the parameter output_map.
 *
 * Templates get the tile parameters and name, arch, cc and shared_limit; head_dim (all but select) and dtype (score and
 * attend); output_map (attend), which 0 leaves out of names. A variant is named by template, dtype, head dim and its
 * parameters' initials: attend_bf16_d128_bm128_bn64_s2_w8; parameters that would share their initials give more letters of
 * their first word. Its source's first line is the command that shows it, without the spec's name, so that the same kernel of
 * two specs is the same text under the same hash.
 */
#ifndef SPACE_H
#define SPACE_H

#include "spec.h"
#include "store.h"
#include "template.h"

struct space_variant {
    struct tamisi_variant variant; /* all members set; source is the hash of text */
    char *text;                    /* owned: what is stored */
    char *lined;                   /* owned: what is compiled */
    char reason[160];              /* the tile entry's reason */
};

struct space_rejection {
    char name[TAMISI_SYMBOL_SIZE];
    char arch[16];
    char reason[160];
};

struct space {
    struct space_variant *variants;
    size_t variant_count;
    struct space_rejection *rejections;
    size_t rejection_count;
};

struct space_options {
    const char *templates_dir;
    const char *abi_dir;
    const char *const *archs; /* NULL-terminated; NULL: the spec's */
    bool defaults_only;       /* only the rank-0 variants */
};

/* Shared memory a block may have on an architecture, in bytes: 163 KiB on sm_80, 99 on 86, 89 and 120, 227 on 90a, 100. */
long space_shared_limit(const char *arch);

/* TAMIS_EINVAL where a combination has no variant left: the message says which, and the last rejection's reason. */
tamis_status space_make(struct space *out, const struct spec *spec, const struct space_options *options);
void space_free(struct space *space);

/* space_order.c. Make the variants of this name the defaults of their combinations; returns how many there are. */
int space_promote(struct space *space, const char *name);
void space_keep_defaults(struct space *space); /* drop all but rank 0 */

/* A spec with its sources and variants into a store, in place of those it had for these architectures; NULL: for all. */
tamis_status space_put(tamis_store *store, const struct spec *spec, const struct space *space, const char *const *archs);

#endif
