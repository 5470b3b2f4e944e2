/*
 * spec_pattern.c: see spec_pattern.h. What each key may be is schema.c's table; which kind it belongs to, is here.
 */
#include "spec_pattern.h"

#include "nearest.h"
#include "plan.h"
#include "spec_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_KIND TAMIS_PATTERN_SLIDING /* of those that a spec can name, in their order */

/* By where a key's value goes: a kind's parameters are one struct. */
static tamis_pattern_kind kind_of(const struct schema_key *key)
{
    static const struct {
        size_t offset;
        tamis_pattern_kind kind;
    } parts[] = {{offsetof(struct spec, pattern.topk_blocks), TAMIS_PATTERN_TOPK_BLOCKS},
                 {offsetof(struct spec, pattern.xattention), TAMIS_PATTERN_XATTENTION},
                 {offsetof(struct spec, pattern.flexprefill), TAMIS_PATTERN_FLEXPREFILL},
                 {offsetof(struct spec, pattern.vertical_slash), TAMIS_PATTERN_VERTICAL_SLASH},
                 {offsetof(struct spec, pattern.sliding), TAMIS_PATTERN_SLIDING}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (key->offset >= parts[i].offset) return parts[i].kind;
    return TAMIS_PATTERN_NONE; /* `kind` itself */
}

static bool is_parameter(const struct schema_key *key)
{
    return key->section == SCHEMA_PATTERN && kind_of(key) != TAMIS_PATTERN_NONE;
}

bool spec_pattern_member(double *out, const tamis_pattern *pattern, const struct schema_key *key)
{
    if (!is_parameter(key) || kind_of(key) != pattern->kind) return false;
    const char *member = (const char *)pattern + key->offset - offsetof(struct spec, pattern);
    int32_t narrow;
    int64_t wide;
    if (key->type == SCHEMA_REAL) {
        memcpy(out, member, sizeof *out);
    } else if (key->bytes == sizeof narrow) {
        memcpy(&narrow, member, sizeof narrow);
        *out = narrow;
    } else {
        memcpy(&wide, member, sizeof wide);
        *out = (double)wide;
    }
    return true;
}

/* ---- in a spec */

static tamis_status fail_foreign(const struct spec_reader *reader, const yaml_node_t *node, const struct schema_key *key)
{
    return spec_yaml_fail(reader->yaml, node, "%s is a parameter of %s, and the pattern's kind is %s", key->key,
                          tamisi_pattern_name(kind_of(key)), tamisi_pattern_name(reader->spec->pattern.kind));
}

tamis_status spec_pattern_finish(const struct spec_reader *reader, const struct spec_seen *seen)
{
    tamis_pattern *pattern = &reader->spec->pattern;
    if (!spec_seen_node(seen, SCHEMA_SPEC, "pattern")) return TAMIS_OK;
    pattern->kind = (tamis_pattern_kind)((int)pattern->kind + FIRST_KIND); /* read as a place among the words */
    for (int i = 0; i < schema_key_count; i++)
        if (seen->nodes[i] && is_parameter(&schema_keys[i]) && kind_of(&schema_keys[i]) != pattern->kind)
            return fail_foreign(reader, seen->nodes[i], &schema_keys[i]);
    return TAMIS_OK;
}

/* ---- on a command line */

static bool read_kind(tamis_pattern *out, const char *text, size_t bytes, char *wrong, size_t wrong_bytes)
{
    const struct schema_key *key = &schema_keys[schema_find(SCHEMA_PATTERN, "kind")];
    char expected[160];
    for (int i = 0; key->words[i]; i++) {
        if (strlen(key->words[i]) != bytes || memcmp(key->words[i], text, bytes) != 0) continue;
        out->kind = (tamis_pattern_kind)(i + FIRST_KIND);
        return true;
    }
    schema_expect(expected, sizeof expected, key);
    snprintf(wrong, wrong_bytes, "\"%.*s\" is no pattern, %s would be right", (int)(bytes < 40 ? bytes : 40), text, expected);
    return false;
}

static const struct schema_key *find_parameter(tamis_pattern_kind kind, const char *name, char *wrong, size_t wrong_bytes)
{
    const char *names[SCHEMA_MAX_KEYS];
    char hint[200];
    int count = 0;
    for (int i = 0; i < schema_key_count; i++) {
        if (!is_parameter(&schema_keys[i]) || kind_of(&schema_keys[i]) != kind) continue;
        if (strcmp(schema_keys[i].key, name) == 0) return &schema_keys[i];
        names[count++] = schema_keys[i].key;
    }
    nearest_describe(hint, sizeof hint, name, names, count);
    snprintf(wrong, wrong_bytes, "%s has no parameter \"%.40s\", %s", tamisi_pattern_name(kind), name, hint);
    return NULL;
}

/* "gamma=0.9"; `seen` has a place for each of schema_keys. */
static bool read_parameter(struct spec *spec, bool *seen, const char *text, size_t bytes, char *wrong, size_t wrong_bytes)
{
    char pair[80], expected[160];
    if (bytes >= sizeof pair) return snprintf(wrong, wrong_bytes, "a parameter is too long"), false;
    memcpy(pair, text, bytes);
    pair[bytes] = '\0';
    char *value = strchr(pair, '=');
    if (!value) return snprintf(wrong, wrong_bytes, "\"%s\" is no name=value", pair), false;
    *value++ = '\0';
    const struct schema_key *key = find_parameter(spec->pattern.kind, pair, wrong, wrong_bytes);
    if (!key) return false;
    if (seen[key - schema_keys]) return snprintf(wrong, wrong_bytes, "%s is given twice", key->key), false;
    seen[key - schema_keys] = true;
    if (spec_value_set(spec, key, value)) return true;
    schema_expect(expected, sizeof expected, key);
    snprintf(wrong, wrong_bytes, "%s is \"%s\", %s would be right", key->key, value, expected);
    return false;
}

bool spec_pattern_read(tamis_pattern *out, const char *text, char *wrong, size_t wrong_bytes)
{
    if (strcmp(text, "none") == 0) return *out = (tamis_pattern)TAMIS_PATTERN_INIT, true;
    bool seen[SCHEMA_MAX_KEYS] = {false};
    struct spec *spec = calloc(1, sizeof *spec);
    if (!spec) return snprintf(wrong, wrong_bytes, "out of memory"), false;
    spec->pattern = (tamis_pattern)TAMIS_PATTERN_INIT;
    size_t bytes = strcspn(text, ",");
    bool ok = read_kind(&spec->pattern, text, bytes, wrong, wrong_bytes);
    for (text += bytes; ok && *text == ','; text += bytes) {
        bytes = strcspn(++text, ",");
        ok = read_parameter(spec, seen, text, bytes, wrong, wrong_bytes);
    }
    if (ok) *out = spec->pattern;
    free(spec);
    return ok;
}
