/*
 * spec_value.c: one mapping of a spec file into its struct, as schema.c's table says. Knows no key by name.
 */
#define _POSIX_C_SOURCE 200809L
#include "spec_reader.h"

#include "nearest.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- text to values; false: not what the schema expects */

bool spec_integer_read(long long *out, const char *text)
{
    const char *digits = text + (*text == '-');
    if (digits[strspn(digits, "0123456789")] != '\0' || *digits == '\0') return false;
    if (digits[0] == '0' && digits[1] != '\0') return false; /* octal to YAML 1.1 */
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool read_real(double *out, const char *text)
{
    char *end;
    if (text[0] == '\0' || text[strspn(text, "0123456789.eE+-")] != '\0' || text[0] == '+') return false;
    *out = strtod(text, &end);
    return *end == '\0' && isfinite(*out);
}

static bool in_range(double value, const struct schema_key *key)
{
    const bool above = key->flags & SCHEMA_ABOVE_LOW ? value > key->low : value >= key->low;
    const bool below = key->flags & SCHEMA_BELOW_HIGH ? value < key->high : value <= key->high;
    return above && below;
}

static int find_word(const struct schema_key *key, const char *text)
{
    for (int i = 0; key->words[i]; i++)
        if (strcmp(key->words[i], text) == 0) return i;
    return -1;
}

static bool store_int(void *element, const struct schema_key *key, const char *text)
{
    long long value;
    if (!spec_integer_read(&value, text)) return false;
    if (key->words ? find_word(key, text) < 0 : !in_range((double)value, key)) return false;
    if (key->flags & SCHEMA_ODD && value % 2 == 0) return false;
    const int32_t narrow = (int32_t)value;
    if (key->bytes == sizeof narrow)
        memcpy(element, &narrow, sizeof narrow);
    else
        memcpy(element, &value, sizeof value);
    return true;
}

static bool store_name(char *element, const struct schema_key *key, const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
    const size_t length = strlen(text);
    if (length == 0 || length >= key->bytes || strspn(text, allowed) != length || strchr("_.-", text[0])) return false;
    memcpy(element, text, length + 1);
    return true;
}

static bool store_text(char *element, const struct schema_key *key, const char *text)
{
    const size_t length = strlen(text);
    if (length >= key->bytes) return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127) return false;
    memcpy(element, text, length + 1);
    return true;
}

_Static_assert(sizeof(tamis_dtype) == sizeof(int) && sizeof(tamis_scope) == sizeof(int), "an ENUM is stored as an int");

static bool store_value(void *element, const struct schema_key *key, const char *text)
{
    double real;
    int word;
    switch (key->type) {
    case SCHEMA_NAME: return store_name(element, key, text);
    case SCHEMA_TEXT: return store_text(element, key, text);
    case SCHEMA_INT: return store_int(element, key, text);
    case SCHEMA_REAL:
        if (!read_real(&real, text) || !in_range(real, key)) return false;
        memcpy(element, &real, sizeof real);
        return true;
    case SCHEMA_WORD:
        if (find_word(key, text) < 0) return false;
        memcpy(element, text, strlen(text) + 1);
        return true;
    case SCHEMA_ENUM:
        word = find_word(key, text);
        if (word < 0) return false;
        memcpy(element, &word, sizeof word);
        return true;
    default: return false;
    }
}

bool spec_value_set(void *base, const struct schema_key *key, const char *text)
{
    return store_value((char *)base + key->offset, key, text);
}

/* ---- members */

static tamis_status fail_value(const struct spec_reader *reader, const struct schema_key *key, const yaml_node_t *node)
{
    char shown[SPEC_YAML_SHOWN], expected[256];
    spec_yaml_show(shown, node);
    schema_expect(expected, sizeof expected, key);
    const bool quoted = node->type == YAML_SCALAR_NODE && !spec_yaml_is_plain(node) &&
                        (key->type == SCHEMA_INT || key->type == SCHEMA_REAL);
    return spec_yaml_fail(reader->yaml, node, "%s is %s%s, %s would be right", key->key, quoted ? "the text " : "",
                          shown, expected);
}

/* Read one scalar into place `index` of the member. */
static tamis_status read_element(const struct spec_reader *reader, void *base, const struct schema_key *key, int index,
                                 const yaml_node_t *node)
{
    char *member = (char *)base + key->offset, *element = member + (size_t)index * key->bytes;
    const bool number = key->type == SCHEMA_INT || key->type == SCHEMA_REAL;
    if (node->type != YAML_SCALAR_NODE || (number && !spec_yaml_is_plain(node))) return fail_value(reader, key, node);
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length || node->data.scalar.length == 0 || !store_value(element, key, text))
        return fail_value(reader, key, node);
    for (int i = 0; i < index; i++)
        if (memcmp(member + (size_t)i * key->bytes, element, key->bytes) == 0)
            return spec_yaml_fail(reader->yaml, node, "%s names \"%s\" twice, once would be right", key->key, text);
    return TAMIS_OK;
}

static tamis_status read_list(const struct spec_reader *reader, void *base, const struct schema_key *key,
                              const yaml_node_t *node)
{
    int count = 0;
    if (node->type != YAML_SEQUENCE_NODE) {
        TAMIS_TRY(read_element(reader, base, key, count++, node)); /* one stands for a list of one */
    } else {
        const yaml_node_item_t *items = node->data.sequence.items.start, *end = node->data.sequence.items.top;
        if (items == end)
            return spec_yaml_fail(reader->yaml, node, "%s is an empty list, at least one would be right", key->key);
        for (; items < end; items++) {
            if (count == key->most)
                return spec_yaml_fail(reader->yaml, spec_yaml_node(reader->yaml, *items),
                                      "%s has more than %d elements, fewer would be right", key->key, key->most);
            TAMIS_TRY(read_element(reader, base, key, count++, spec_yaml_node(reader->yaml, *items)));
        }
    }
    memcpy((char *)base + key->count_offset, &count, sizeof count);
    return TAMIS_OK;
}

static tamis_status read_member(const struct spec_reader *reader, void *base, const struct schema_key *key,
                                const yaml_node_t *node, struct spec_seen *seen)
{
    switch (key->type) {
    case SCHEMA_MAPPING: return spec_mapping_read(reader, base, key->inner, node, seen);
    case SCHEMA_LAYERS:
    case SCHEMA_TILES:
    case SCHEMA_PARAMS: return TAMIS_OK; /* the caller's */
    default: break;
    }
    return key->most ? read_list(reader, base, key, node) : read_element(reader, base, key, 0, node);
}

/* The table's own text; it is tested, so it fits. */
static void read_default(void *base, const struct schema_key *key)
{
    char text[160], *rest = NULL;
    int count = 0;
    snprintf(text, sizeof text, "%s", key->otherwise);
    for (char *word = strtok_r(text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        if (store_value((char *)base + key->offset + (size_t)count * key->bytes, key, word)) count++;
    if (key->most) memcpy((char *)base + key->count_offset, &count, sizeof count);
}

/* ---- a mapping */

static tamis_status fail_unknown(const struct spec_reader *reader, enum schema_section section, const yaml_node_t *node)
{
    const char *names[SCHEMA_MAX_KEYS];
    char hint[320], shown[SPEC_YAML_SHOWN];
    int count = 0;
    for (int i = 0; i < schema_key_count; i++)
        if (schema_keys[i].section == section) names[count++] = schema_keys[i].key;
    spec_yaml_show(shown, node);
    if (node->type != YAML_SCALAR_NODE)
        return spec_yaml_fail(reader->yaml, node, "a key of %s is %s, a name would be right",
                              schema_section_name(section), shown);
    nearest_describe(hint, sizeof hint, (const char *)node->data.scalar.value, names, count);
    return spec_yaml_fail(reader->yaml, node, "unknown key %s in %s, %s", shown, schema_section_name(section), hint);
}

static tamis_status read_pair(const struct spec_reader *reader, void *base, enum schema_section section,
                              const yaml_node_pair_t *pair, struct spec_seen *seen)
{
    const yaml_node_t *name = spec_yaml_node(reader->yaml, pair->key);
    const yaml_node_t *value = spec_yaml_node(reader->yaml, pair->value);
    if (name->type != YAML_SCALAR_NODE || strlen((const char *)name->data.scalar.value) != name->data.scalar.length)
        return fail_unknown(reader, section, name);
    const int index = schema_find(section, (const char *)name->data.scalar.value);
    if (index < 0) return fail_unknown(reader, section, name);
    if (seen->nodes[index])
        return spec_yaml_fail(reader->yaml, name, "%s is given twice, once, as on line %zu, would be right",
                              schema_keys[index].key, seen->nodes[index]->start_mark.line + 1);
    seen->nodes[index] = value;
    return read_member(reader, base, &schema_keys[index], value, seen);
}

tamis_status spec_mapping_read(const struct spec_reader *reader, void *base, enum schema_section section,
                               const yaml_node_t *node, struct spec_seen *seen)
{
    if (node->type != YAML_MAPPING_NODE) {
        char shown[SPEC_YAML_SHOWN], expected[256];
        spec_yaml_show(shown, node);
        schema_expect_mapping(expected, sizeof expected, section);
        return spec_yaml_fail(reader->yaml, node, "%s is %s, %s would be right", schema_section_name(section), shown,
                              expected);
    }
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
        TAMIS_TRY(read_pair(reader, base, section, pair, seen));
    for (int i = 0; i < schema_key_count; i++) {
        const struct schema_key *key = &schema_keys[i];
        if (key->section != section || seen->nodes[i]) continue;
        char expected[256];
        schema_expect(expected, sizeof expected, key);
        if (key->flags & SCHEMA_REQUIRED)
            return spec_yaml_fail(reader->yaml, node, "%s is missing in %s, %s would be right", key->key,
                                  schema_section_name(section), expected);
        if (key->otherwise) read_default(base, key);
    }
    return TAMIS_OK;
}

const yaml_node_t *spec_seen_node(const struct spec_seen *seen, enum schema_section section, const char *key)
{
    const int index = schema_find(section, key);
    return index < 0 ? NULL : seen->nodes[index];
}
