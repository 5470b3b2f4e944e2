/*
 * spec_import.h: a Hugging Face model configuration (config.json) as a spec. Above json_read, schema and spec, below
 * cmd_spec_import.c. Reads text, no files.
 */
#ifndef SPEC_IMPORT_H
#define SPEC_IMPORT_H

#include "buf.h"
#include "spec.h"

#include <stdbool.h>
#include <stddef.h>

#define SPEC_IMPORT_MAX_BYTES (1024 * 1024)
#define SPEC_IMPORT_MAX_NOTES 16

struct spec_import {
    char name[64];     /* by "_name_or_path"; "" if it gives none */
    char model[96];    /* "_name_or_path" as written, printable; "" if not given */
    int layers;        /* 0: not given */
    int q_heads, kv_heads, head_dim;
    double scale;      /* 0: not given */
    tamis_dtype dtype;
    int note_count;    /* what the operator lacks, or what was taken for granted: a sentence each, without its full stop */
    char notes[SPEC_IMPORT_MAX_NOTES][160];
};

/*
 * What the configuration says, a "text_config" in it before the rest. TAMIS_EINVAL: no JSON, a member missing or of a wrong
 * kind, or attention that no spec can say; "file:line:column: why", or "file: why" where no place is to blame.
 */
tamis_status spec_import_read(struct spec_import *out, const char *file, const char *text, size_t bytes);

/* Text as a spec's name: [a-z0-9.-]+, of a path its last part; "" if nothing is left. */
void spec_import_name(char out[64], const char *text, size_t bytes);

/* The spec, with the notes as comments and what no configuration says by the defaults. */
void spec_import_write(struct tamisi_buf *out, const struct spec_import *import, double coverage);

#endif
