/*
 * spec_pattern.h: block patterns as text: a spec's `pattern`, and the same on the command line. Beside spec.h, above schema.
 */
#ifndef SPEC_PATTERN_H
#define SPEC_PATTERN_H

#include "schema.h"

/* The value of a key of SCHEMA_PATTERN, if it is one of the pattern's own kind, and not its kind itself. */
bool spec_pattern_member(double *out, const tamis_pattern *pattern, const struct schema_key *key);

/* "none", or as "flexprefill,gamma=0.9" a kind and parameters of it; others are as published. false: `wrong` says what would
   be right. */
bool spec_pattern_read(tamis_pattern *out, const char *text, char *wrong, size_t wrong_bytes);

#endif
