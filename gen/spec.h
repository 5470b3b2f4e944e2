/*
 * spec.h: a model spec: what a YAML file under specs/ says, checked. Depends on libyaml (inside spec_yaml.c) and the
 * runtime's error, buf and tamis.h. Knows nothing of templates' content: which tile parameters a template has is a table in
 * schema.h.
 */
#ifndef SPEC_H
#define SPEC_H

#include "buf.h"
#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

#define SPEC_MAX_DTYPES 2
#define SPEC_MAX_ARCHS 8
#define SPEC_MAX_PARAMS 16 /* tile parameters of one family */
#define SPEC_MAX_VALUES 16 /* values one tile parameter can be given in one entry */

/* One tile parameter with the values to try, in the order written. */
struct spec_param {
    char name[32]; /* "block_m" */
    long values[SPEC_MAX_VALUES];
    int value_count;
};

/* One entry of a tile list: for these architectures, head dims and dtypes, these parameters. Empty lists match all. */
struct spec_tile {
    char family[16];        /* score, select, compress, attend, decompress, drift */
    char template_name[24]; /* which template expands it: attend, attend_wgmma; never "" */
    char archs[SPEC_MAX_ARCHS][16];
    int arch_count;
    int head_dims[8];
    int head_dim_count;
    tamis_dtype dtypes[SPEC_MAX_DTYPES];
    int dtype_count;
    struct spec_param params[SPEC_MAX_PARAMS]; /* sorted by name */
    int param_count;
    char reason[160]; /* why this tile, from the file; "" if not given */
    int line;         /* where the entry stands, for messages; file in `file` */
    char file[128];
};

struct spec {
    char name[64]; /* [a-z0-9.-]+ */
    int layers;    /* 0: not given */
    char sparse_layers[256]; /* "15-30" or "14,15,20-37", normalised; "" if not given */
    tamis_dtype dtypes[SPEC_MAX_DTYPES];
    int dtype_count;
    tamis_problem problem; /* geometry, scale, selection; dtype = dtypes[0], batch 1, seq_len 0 */
    tamis_pattern pattern; /* kind NONE: every block */
    int output_map;        /* 1: kernels of family attend_map too, whose tiles are attend's */
    double ratios[8];      /* selection.ratios: the ratios that tuning and benches try; at least one */
    int ratio_count;
    char archs[SPEC_MAX_ARCHS][16];
    int arch_count;
    struct spec_tile *tiles; /* the model's own entries first, then those of the shared lists; the first match is the default */
    size_t tile_count;
    char *text; /* the spec file as read */
};

/*
 * Read and check a spec and the tile lists it names (relative to the spec's own folder, else to `shared_dir`).
 *
 * On failure the error is TAMIS_EINVAL with the message "file:line:column: what is wrong, what would be right", lines and
 * columns from 1; the file is named as given in `path`, a tile list as it was found. A spec that cannot be read at all is
 * TAMIS_ENOTFOUND or TAMIS_EIO and "file: why". TAMIS_ENOMEM.
 */
tamis_status spec_read(struct spec *out, const char *path, const char *shared_dir);

/* The same from memory: `name` is what messages call it; its folder is where tile lists, still files, are looked for. */
tamis_status spec_parse(struct spec *out, const char *name, const char *text, size_t bytes, const char *shared_dir);

void spec_free(struct spec *spec);

/* Names as in YAML: "bf16"; "coverage"; "kv_group". */
const char *spec_dtype_name(tamis_dtype dtype);
const char *spec_policy_name(tamis_policy policy);
const char *spec_scope_name(tamis_scope scope);
bool spec_dtype_from_name(tamis_dtype *out, const char *name);

/* "attend", "sm_90a" and so on that tamis knows; NULL-terminated, in their canonical order. */
extern const char *const spec_families[];
extern const char *const spec_archs[]; /* sm_80 sm_86 sm_89 sm_90a sm_100 sm_120 */

#endif
