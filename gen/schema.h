/*
 * schema.h: what a spec file may say: every key with its type, range, default and meaning, and every tile parameter of
 * every template. One table each, which reading (spec_value.c), messages and the documented listing all follow; to change
 * what a spec can say, change a line of schema.c. Below the spec reader; reads nothing itself.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include "buf.h"
#include "spec.h"

enum schema_section {
    SCHEMA_SPEC,      /* the root of a spec file */
    SCHEMA_ATTENTION, /* its `attention` */
    SCHEMA_SELECTION, /* its `selection` */
    SCHEMA_PATTERN,   /* its `pattern` */
    SCHEMA_TILE_LIST, /* the root of a shared tile file */
    SCHEMA_TILE       /* one entry of `tiles` */
};

enum schema_type {
    SCHEMA_NAME,    /* text of a-z, 0-9, '.', '-', kept in a char array */
    SCHEMA_TEXT,    /* any printable text, kept in a char array */
    SCHEMA_INT,     /* int, int32_t or int64_t by `bytes` */
    SCHEMA_REAL,    /* double */
    SCHEMA_WORD,    /* one of `words`, kept in a char array */
    SCHEMA_ENUM,    /* one of `words`, kept as its place among them */
    SCHEMA_LAYERS,  /* "15-30", 7, or a list of both: struct spec's sparse_layers */
    SCHEMA_MAPPING, /* a mapping with the keys of section `inner` */
    SCHEMA_TILES,   /* tile entries and, in a spec, names of shared tile files */
    SCHEMA_PARAMS   /* a mapping of tile parameters: schema_params */
};

enum schema_flags {
    SCHEMA_REQUIRED = 1,
    SCHEMA_ABOVE_LOW = 2,  /* the range leaves `low` itself out */
    SCHEMA_BELOW_HIGH = 4, /* the range leaves `high` itself out */
    SCHEMA_ODD = 8,
    SCHEMA_VALUE = 16 /* an INT that is one of `words` */
};

struct schema_key {
    enum schema_section section;
    const char *key;
    enum schema_type type;
    int flags;
    double low, high;         /* of a number */
    const char *const *words; /* NULL-terminated */
    enum schema_section inner;
    size_t offset, bytes;  /* where an element goes, in struct spec (SCHEMA_TILE: struct spec_tile), and its size */
    size_t count_offset;   /* of a list: where its length, an int, goes */
    int most;              /* of a list: elements at most; 0: no list */
    const char *otherwise; /* read where the key is absent, list elements divided by blanks; NULL: nothing is */
    const char *meaning;
};

extern const struct schema_key schema_keys[];
#define SCHEMA_MAX_KEYS 56
extern const int schema_key_count;

int schema_find(enum schema_section section, const char *key); /* place in schema_keys, or -1 */
const char *schema_section_name(enum schema_section section);  /* "the spec", "selection" */

/* "a mapping with keys q_heads, kv_heads, ..." */
void schema_expect_mapping(char *out, size_t size, enum schema_section section);

/* What would be right: "an odd integer from 1 to 63"; of a list's element, if it is one. */
void schema_expect(char *out, size_t size, const struct schema_key *key);

/* ---- templates and their tile parameters */

struct schema_template {
    const char *name, *family; /* <name>.cu.lua; the first of a family is its default */
    const char *meaning;
};
extern const struct schema_template schema_templates[]; /* ended by a NULL name */

struct schema_param {
    const char *template_name, *name;
    long low, high;
    const char *meaning;
};
extern const struct schema_param schema_params[]; /* by template, then name; ended by a NULL name */

const struct schema_template *schema_template_find(const char *name);
const struct schema_param *schema_param_find(const char *template_name, const char *name);

/* All of the above as text for people: every key, then every template's parameters. */
void schema_list(struct tamisi_buf *out);

#endif
