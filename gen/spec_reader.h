/*
 * spec_reader.h: what the spec reader's own files share. Order, from the top: spec.c, spec_tiles.c and spec_layers.c,
 * spec_value.c, spec_yaml.c.
 */
#ifndef SPEC_READER_H
#define SPEC_READER_H

#include "schema.h"
#include "spec_yaml.h"

/* The nodes of a mapping's values by place in schema_keys; NULL: the key was not given. */
struct spec_seen {
    const yaml_node_t *nodes[SCHEMA_MAX_KEYS];
};

struct spec_reader {
    struct spec *spec;
    const struct spec_yaml *yaml; /* the file that is being read */
    const char *folder;           /* where tile lists are looked for: here, */
    const char *shared_dir;       /* then here; may be NULL */
};

/*
 * spec_value.c: read a mapping as the schema says: every key known, given once, of the right type and range; required
 * keys there; defaults for the others. `base` is the struct that the section's offsets are of. MAPPING members are read
 * in turn; LAYERS, TILES and PARAMS are left to the caller, who finds them in `seen`.
 */
tamis_status spec_mapping_read(const struct spec_reader *reader, void *base, enum schema_section section,
                               const yaml_node_t *node, struct spec_seen *seen);

/* An integer as YAML and C agree on it: no other base, no sign but '-', no quotes. */
bool spec_integer_read(long long *out, const char *text);

/* One value into its place in `base`; false: not what the key may be. */
bool spec_value_set(void *base, const struct schema_key *key, const char *text);

/* The node of a key that was seen, or NULL. */
const yaml_node_t *spec_seen_node(const struct spec_seen *seen, enum schema_section section, const char *key);

/* spec_layers.c: the spec's sparse_layers in their normal form; its number of layers has been read. */
tamis_status spec_layers_read(const struct spec_reader *reader, const yaml_node_t *node);

/* spec_pattern.c: what holds between the keys of the spec's `pattern`, which has been read if it was given. */
tamis_status spec_pattern_finish(const struct spec_reader *reader, const struct spec_seen *seen);

/* spec_tiles.c: the spec's `tiles`: its own entries, then the files'. */
tamis_status spec_tiles_read(const struct spec_reader *reader, const yaml_node_t *node);

#endif
