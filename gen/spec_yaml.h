/*
 * spec_yaml.h: one YAML file as a tree of nodes with places, and messages at them. Lowest of the spec reader's files;
 * knows libyaml, but not what a spec says. What a spec has no use for is refused here: anchors, aliases, tags, several
 * documents.
 */
#ifndef SPEC_YAML_H
#define SPEC_YAML_H

#include "buf.h"
#include "error.h"

#include <stdbool.h>
#include <yaml.h>

#define SPEC_YAML_MAX_BYTES (256 * 1024)
#define SPEC_YAML_MAX_DEPTH 8
#define SPEC_YAML_MAX_NODES 20000

struct spec_yaml {
    const char *name; /* what messages call it; borrowed */
    yaml_document_t document;
};

/* TAMIS_ENOTFOUND, TAMIS_EIO (with errno's text), TAMIS_EINVAL (too large), TAMIS_ENOMEM. */
tamis_status spec_yaml_load(struct tamisi_buf *out, const char *path);

/* The text need not outlive the call; `name` must. On success spec_yaml_close() is due. */
tamis_status spec_yaml_parse(struct spec_yaml *out, const char *name, const char *text, size_t bytes);
void spec_yaml_close(struct spec_yaml *yaml);

const yaml_node_t *spec_yaml_root(const struct spec_yaml *yaml); /* never NULL */
const yaml_node_t *spec_yaml_node(const struct spec_yaml *yaml, int id);

/* TAMIS_EINVAL with "file:line:column: " and the message. */
__attribute__((format(printf, 3, 4))) tamis_status spec_yaml_fail(const struct spec_yaml *yaml, const yaml_node_t *at,
                                                                  const char *format, ...);

#define SPEC_YAML_SHOWN 64
/* What a node is, to be shown after "is": "64abc" in quotes, cut where long; a list; a mapping; empty. */
void spec_yaml_show(char out[SPEC_YAML_SHOWN], const yaml_node_t *node);

/* Is it a scalar written without quotes, as numbers are? */
bool spec_yaml_is_plain(const yaml_node_t *node);

#endif
