/*
 * spec_tiles.c: a spec's `tiles`: its own entries, then those of the shared files that it names, in the order written.
 * Below spec.c, above spec_value.c.
 */
#include "spec_reader.h"

#include "nearest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TILES 1024
#define MAX_PATH 1024
#define MAX_FILE_NAME 200 /* of a tile file as a spec names it */

/* ---- one entry */

static tamis_status fail_template(const struct spec_reader *reader, const struct spec_tile *tile,
                                  const yaml_node_t *node)
{
    char list[160];
    size_t used = 0;
    for (const struct schema_template *at = schema_templates; at->name && used < sizeof list; at++)
        if (strcmp(at->family, tile->family) == 0)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? " or " : "", at->name);
    return spec_yaml_fail(reader->yaml, node, "template is \"%s\", %s would be right for family %s", tile->template_name,
                          list, tile->family);
}

static tamis_status check_template(const struct spec_reader *reader, struct spec_tile *tile, const yaml_node_t *node)
{
    if (!node) {
        const struct schema_template *at = schema_templates;
        while (strcmp(at->family, tile->family) != 0) at++;
        snprintf(tile->template_name, sizeof tile->template_name, "%s", at->name);
        return TAMIS_OK;
    }
    const struct schema_template *found = schema_template_find(tile->template_name);
    return found && strcmp(found->family, tile->family) == 0 ? TAMIS_OK : fail_template(reader, tile, node);
}

static tamis_status read_value(const struct spec_reader *reader, struct spec_param *param,
                               const struct schema_param *schema, const yaml_node_t *node)
{
    long long value;
    if (!spec_yaml_is_plain(node) || !spec_integer_read(&value, (const char *)node->data.scalar.value) ||
        value < schema->low || value > schema->high) {
        char shown[SPEC_YAML_SHOWN];
        spec_yaml_show(shown, node);
        return spec_yaml_fail(reader->yaml, node, "%s is %s, an integer from %ld to %ld would be right (%s)", param->name,
                              shown, schema->low, schema->high, schema->meaning);
    }
    for (int i = 0; i < param->value_count; i++)
        if (param->values[i] == (long)value)
            return spec_yaml_fail(reader->yaml, node, "%s has the value %lld twice, once would be right", param->name,
                                  value);
    if (param->value_count == SPEC_MAX_VALUES)
        return spec_yaml_fail(reader->yaml, node, "%s has more than %d values, fewer would be right", param->name,
                              SPEC_MAX_VALUES);
    param->values[param->value_count++] = (long)value;
    return TAMIS_OK;
}

static tamis_status read_values(const struct spec_reader *reader, struct spec_param *param,
                                const struct schema_param *schema, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE) return read_value(reader, param, schema, node);
    for (const yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
        TAMIS_TRY(read_value(reader, param, schema, spec_yaml_node(reader->yaml, *item)));
    if (param->value_count == 0)
        return spec_yaml_fail(reader->yaml, node, "%s is an empty list, at least one would be right", param->name);
    return TAMIS_OK;
}

static tamis_status fail_param(const struct spec_reader *reader, const char *template_name, const yaml_node_t *node)
{
    const char *names[SPEC_MAX_PARAMS];
    char hint[320], shown[SPEC_YAML_SHOWN];
    int count = 0;
    for (const struct schema_param *at = schema_params; at->name && count < SPEC_MAX_PARAMS; at++)
        if (strcmp(at->template_name, template_name) == 0) names[count++] = at->name;
    spec_yaml_show(shown, node);
    if (node->type != YAML_SCALAR_NODE)
        return spec_yaml_fail(reader->yaml, node, "a key of params is %s, a name would be right", shown);
    nearest_describe(hint, sizeof hint, (const char *)node->data.scalar.value, names, count);
    return spec_yaml_fail(reader->yaml, node, "template %s has no parameter %s, %s", template_name, shown, hint);
}

static tamis_status read_param(const struct spec_reader *reader, struct spec_tile *tile, const yaml_node_pair_t *pair)
{
    const yaml_node_t *name = spec_yaml_node(reader->yaml, pair->key);
    const yaml_node_t *value = spec_yaml_node(reader->yaml, pair->value);
    const struct schema_param *schema = NULL;
    if (name->type == YAML_SCALAR_NODE)
        schema = schema_param_find(tile->template_name, (const char *)name->data.scalar.value);
    if (!schema) return fail_param(reader, tile->template_name, name);
    for (int i = 0; i < tile->param_count; i++)
        if (strcmp(tile->params[i].name, schema->name) == 0)
            return spec_yaml_fail(reader->yaml, name, "%s is given twice, once would be right", schema->name);
    struct spec_param *param = &tile->params[tile->param_count++]; /* room: no template has more than fit */
    snprintf(param->name, sizeof param->name, "%s", schema->name);
    return read_values(reader, param, schema, value);
}

static int compare_params(const void *a, const void *b)
{
    return strcmp(((const struct spec_param *)a)->name, ((const struct spec_param *)b)->name);
}

static tamis_status read_params(const struct spec_reader *reader, struct spec_tile *tile, const yaml_node_t *node)
{
    if (node->type != YAML_MAPPING_NODE) {
        char shown[SPEC_YAML_SHOWN];
        spec_yaml_show(shown, node);
        return spec_yaml_fail(reader->yaml, node, "params is %s, a mapping of tile parameters would be right", shown);
    }
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++)
        TAMIS_TRY(read_param(reader, tile, pair));
    qsort(tile->params, (size_t)tile->param_count, sizeof tile->params[0], compare_params);
    for (const struct schema_param *at = schema_params; at->name; at++) {
        bool given = strcmp(at->template_name, tile->template_name) != 0;
        for (int i = 0; i < tile->param_count; i++) given = given || strcmp(tile->params[i].name, at->name) == 0;
        if (!given)
            return spec_yaml_fail(reader->yaml, node,
                                  "%s is missing in params, an integer from %ld to %ld would be right (%s)", at->name,
                                  at->low, at->high, at->meaning);
    }
    return TAMIS_OK;
}

static struct spec_tile *add_tile(struct spec *spec)
{
    if ((spec->tile_count & (spec->tile_count - 1)) == 0) { /* a power of two: full */
        const size_t room = spec->tile_count ? 2 * spec->tile_count : 1;
        struct spec_tile *grown = realloc(spec->tiles, room * sizeof *grown);
        if (!grown) return NULL;
        spec->tiles = grown;
    }
    struct spec_tile *tile = &spec->tiles[spec->tile_count++];
    memset(tile, 0, sizeof *tile);
    return tile;
}

/* A file's name for messages of later modules; of a long one its end, which tells more. */
static void set_place(struct spec_tile *tile, const char *name, const yaml_node_t *node)
{
    const size_t length = strlen(name), room = sizeof tile->file - 1;
    if (length <= room)
        snprintf(tile->file, sizeof tile->file, "%s", name);
    else
        snprintf(tile->file, sizeof tile->file, "...%s", name + length - room + 3);
    tile->line = (int)node->start_mark.line + 1;
}

static tamis_status read_tile(const struct spec_reader *reader, const yaml_node_t *node)
{
    struct spec_seen seen = {{NULL}};
    if (reader->spec->tile_count == MAX_TILES)
        return spec_yaml_fail(reader->yaml, node, "more than %d tile entries, fewer would be right", MAX_TILES);
    struct spec_tile *tile = add_tile(reader->spec);
    if (!tile) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", reader->yaml->name);
    TAMIS_TRY(spec_mapping_read(reader, tile, SCHEMA_TILE, node, &seen));
    set_place(tile, reader->yaml->name, node);
    TAMIS_TRY(check_template(reader, tile, spec_seen_node(&seen, SCHEMA_TILE, "template")));
    return read_params(reader, tile, spec_seen_node(&seen, SCHEMA_TILE, "params"));
}

/* ---- files */

static tamis_status read_tile_text(const struct spec_reader *outer, const char *path, const struct tamisi_buf *text)
{
    struct spec_yaml yaml;
    struct spec_reader reader = *outer;
    struct spec_seen seen = {{NULL}};
    TAMIS_TRY(spec_yaml_parse(&yaml, path, text->data, text->size));
    reader.yaml = &yaml;
    reader.folder = NULL; /* a tile file names no others */
    tamis_status status = spec_mapping_read(&reader, NULL, SCHEMA_TILE_LIST, spec_yaml_root(&yaml), &seen);
    if (status == TAMIS_OK) status = spec_tiles_read(&reader, spec_seen_node(&seen, SCHEMA_TILE_LIST, "tiles"));
    spec_yaml_close(&yaml);
    return status;
}

/* Try one folder. TAMIS_ENOTFOUND: it is not there. */
static tamis_status read_tile_file(const struct spec_reader *reader, const char *folder, const char *name)
{
    char path[MAX_PATH];
    struct tamisi_buf text = TAMISI_BUF_INIT;
    const int bytes = snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", name);
    if (bytes >= (int)sizeof path) return TAMIS_ENOTFOUND;
    tamis_status status = spec_yaml_load(&text, path);
    if (status == TAMIS_OK) status = read_tile_text(reader, path, &text);
    tamisi_buf_free(&text);
    return status;
}

/* A relative name that a message can repeat and a file system takes. */
static bool is_file_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f) return false;
    return length > strlen(".yaml") && length <= MAX_FILE_NAME && strcmp(name + length - strlen(".yaml"), ".yaml") == 0 &&
           name[0] != '/';
}

static tamis_status read_named_file(const struct spec_reader *reader, const yaml_node_t *node)
{
    const char *name = (const char *)node->data.scalar.value;
    const size_t length = node->data.scalar.length;
    char shown[SPEC_YAML_SHOWN];
    spec_yaml_show(shown, node);
    if (!reader->folder)
        return spec_yaml_fail(reader->yaml, node, "a tile file names %s, entries alone would be right", shown);
    if (!is_file_name(name, length))
        return spec_yaml_fail(reader->yaml, node,
                              "tiles has %s, a tile entry or a file as in tiles/portable.yaml would be right", shown);
    tamis_status status = read_tile_file(reader, reader->folder, name);
    if (status == TAMIS_ENOTFOUND && reader->shared_dir) status = read_tile_file(reader, reader->shared_dir, name);
    if (status == TAMIS_ENOTFOUND)
        return spec_yaml_fail(reader->yaml, node,
                              "there is no tile file %s beside the spec%s%s, a file's name would be right", shown,
                              reader->shared_dir ? " or in " : "", reader->shared_dir ? reader->shared_dir : "");
    return status;
}

static tamis_status check_file_once(const struct spec_reader *reader, const yaml_node_t *list,
                                    const yaml_node_item_t *item)
{
    const yaml_node_t *node = spec_yaml_node(reader->yaml, *item);
    for (const yaml_node_item_t *other = list->data.sequence.items.start; other < item; other++) {
        const yaml_node_t *earlier = spec_yaml_node(reader->yaml, *other);
        if (earlier->type == YAML_SCALAR_NODE &&
            strcmp((const char *)earlier->data.scalar.value, (const char *)node->data.scalar.value) == 0)
            return spec_yaml_fail(reader->yaml, node, "tiles names \"%.200s\" twice, once would be right",
                                  (const char *)node->data.scalar.value);
    }
    return TAMIS_OK;
}

tamis_status spec_tiles_read(const struct spec_reader *reader, const yaml_node_t *node)
{
    if (node->type != YAML_SEQUENCE_NODE || node->data.sequence.items.start == node->data.sequence.items.top) {
        char shown[SPEC_YAML_SHOWN];
        spec_yaml_show(shown, node);
        return spec_yaml_fail(reader->yaml, node, "tiles is %s, a list of tile entries%s would be right",
                              node->type == YAML_SEQUENCE_NODE ? "an empty list" : shown,
                              reader->folder ? " and files" : "");
    }
    const yaml_node_item_t *items = node->data.sequence.items.start, *end = node->data.sequence.items.top;
    for (const yaml_node_item_t *item = items; item < end; item++)
        if (spec_yaml_node(reader->yaml, *item)->type != YAML_SCALAR_NODE)
            TAMIS_TRY(read_tile(reader, spec_yaml_node(reader->yaml, *item)));
    for (const yaml_node_item_t *item = items; item < end; item++) {
        if (spec_yaml_node(reader->yaml, *item)->type != YAML_SCALAR_NODE) continue;
        TAMIS_TRY(check_file_once(reader, node, item));
        TAMIS_TRY(read_named_file(reader, spec_yaml_node(reader->yaml, *item)));
    }
    return TAMIS_OK;
}
