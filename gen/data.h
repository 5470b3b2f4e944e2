/*
 * data.h: where the tool's own files are: templates/, specs/ and runtime/kernel_args.h. Layer: below cmd_*.c, knows no
 * command.
 */
#ifndef DATA_H
#define DATA_H

#include "tamis.h"

#include <limits.h>
#include <stdbool.h>

struct data {
    char dir[PATH_MAX];
    char templates_dir[PATH_MAX + 16];
    char abi_dir[PATH_MAX + 16]; /* holds kernel_args.h */
    char specs_dir[PATH_MAX + 16];
    const char *origin; /* how it was found: "TAMIS_DATA_DIR", "installed", "source tree" */
};

/*
 * $TAMIS_DATA_DIR and no other if set; else ../share/tamis beside the program's folder; else the source tree that it was
 * built from. TAMIS_ENOTFOUND: the message says what was tried.
 */
tamis_status data_find(struct data *out);

/*
 * The file that a SPEC argument means: itself, or NAME.yaml beside it, or NAME.yaml of specs/. TAMIS_ENOTFOUND: the message
 * has the nearest name there is.
 */
tamis_status data_spec_path(char out[PATH_MAX + 80], const struct data *data, const char *spec);

/* What specs/ has, by name, sorted: an array of texts, to be freed with them; NULL and 0 where there is none. */
char **data_spec_names(const struct data *data, int *count);
void data_spec_names_free(char **names, int count);

/* Where an argument may be either: whether it is a store, by the file's first bytes. */
bool data_is_store(const char *path);

#endif
