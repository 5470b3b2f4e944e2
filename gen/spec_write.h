/* spec_write.h: a spec as text again: YAML with every default written out and tile lists in place, or JSON. Above spec. */
#ifndef SPEC_WRITE_H
#define SPEC_WRITE_H

#include "json.h"
#include "spec.h"

/* Reads back as the same spec. */
void spec_write_yaml(struct tamisi_buf *out, const struct spec *spec);
void spec_write_json(struct json *json, const struct spec *spec); /* the members of an open object */

#endif
