/*
 * spec.c: a spec file to struct spec: the root of the spec reader, and what holds between several keys. Above
 * spec_tiles.c, spec_pattern.c and spec_value.c; what single keys may be is schema.c's table.
 */
#include "spec_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FOLDER 1024

/* ---- what one key says about another */

static const yaml_node_t *selection_node(const struct spec_seen *seen, const char *key)
{
    return spec_seen_node(seen, SCHEMA_SELECTION, key);
}

/* The policy is the one of coverage, ratio and count that is given. */
static tamis_status set_policy(const struct spec_reader *reader, const struct spec_seen *seen)
{
    static const tamis_policy policies[] = {TAMIS_COVERAGE, TAMIS_RATIO, TAMIS_COUNT};
    tamis_selection *selection = &reader->spec->problem.selection;
    selection->policy = TAMIS_DENSE;
    for (int i = 0; i < 3; i++) {
        const char *name = spec_policy_name(policies[i]);
        const yaml_node_t *node = selection_node(seen, name);
        if (!node) continue;
        if (selection->policy != TAMIS_DENSE)
            return spec_yaml_fail(reader->yaml, node, "selection has both %s and %s, one of them would be right",
                                  spec_policy_name(selection->policy), name);
        selection->policy = policies[i];
    }
    if (selection->policy != TAMIS_DENSE) return TAMIS_OK;
    return spec_yaml_fail(reader->yaml, spec_seen_node(seen, SCHEMA_SPEC, "selection"),
                          "selection does not say how many tokens are kept, one of coverage, ratio and count would be "
                          "right");
}

static tamis_status check_heads(const struct spec_reader *reader, const struct spec_seen *seen)
{
    const tamis_problem *problem = &reader->spec->problem;
    if (problem->q_heads % problem->kv_heads == 0) return TAMIS_OK;
    return spec_yaml_fail(reader->yaml, spec_seen_node(seen, SCHEMA_ATTENTION, "q_heads"),
                          "q_heads is %d, a multiple of kv_heads, %d, would be right", (int)problem->q_heads,
                          (int)problem->kv_heads);
}

/* ---- the file */

static tamis_status read_root(const struct spec_reader *reader)
{
    struct spec *spec = reader->spec;
    struct spec_seen seen = {{NULL}};
    const tamis_problem initial = TAMIS_PROBLEM_INIT;
    spec->problem = initial;
    spec->pattern = (tamis_pattern)TAMIS_PATTERN_INIT;
    TAMIS_TRY(spec_mapping_read(reader, spec, SCHEMA_SPEC, spec_yaml_root(reader->yaml), &seen));
    TAMIS_TRY(set_policy(reader, &seen));
    TAMIS_TRY(check_heads(reader, &seen));
    TAMIS_TRY(spec_pattern_finish(reader, &seen));
    spec->problem.dtype = spec->dtypes[0];
    const yaml_node_t *layers = spec_seen_node(&seen, SCHEMA_SPEC, "sparse_layers");
    if (layers) TAMIS_TRY(spec_layers_read(reader, layers));
    return spec_tiles_read(reader, spec_seen_node(&seen, SCHEMA_SPEC, "tiles"));
}

/* The folder of a file's name: "" for the current one. */
static tamis_status find_folder(char out[MAX_FOLDER], const char *name)
{
    const char *slash = strrchr(name, '/');
    const size_t bytes = slash ? (size_t)(slash - name) + (slash == name) : 0; /* "/" stays "/" */
    if (bytes >= MAX_FOLDER) return tamisi_fail(TAMIS_EINVAL, "%.200s...: the file's name is too long", name);
    memcpy(out, name, bytes);
    out[bytes] = '\0';
    return TAMIS_OK;
}

static tamis_status parse_into(struct spec *spec, const char *name, const char *text, size_t bytes,
                               const char *shared_dir)
{
    char folder[MAX_FOLDER];
    struct spec_yaml yaml;
    TAMIS_TRY(find_folder(folder, name));
    TAMIS_TRY(spec_yaml_parse(&yaml, name, text, bytes));
    const struct spec_reader reader = {spec, &yaml, folder, shared_dir};
    tamis_status status = read_root(&reader);
    spec_yaml_close(&yaml);
    if (status != TAMIS_OK) return status;
    spec->text = malloc(bytes + 1);
    if (!spec->text) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", name);
    memcpy(spec->text, text, bytes); /* holds no zeros: YAML has none */
    spec->text[bytes] = '\0';
    return TAMIS_OK;
}

tamis_status spec_parse(struct spec *out, const char *name, const char *text, size_t bytes, const char *shared_dir)
{
    memset(out, 0, sizeof *out);
    const tamis_status status = parse_into(out, name, text, bytes, shared_dir);
    if (status != TAMIS_OK) spec_free(out);
    return status;
}

tamis_status spec_read(struct spec *out, const char *path, const char *shared_dir)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    memset(out, 0, sizeof *out);
    tamis_status status = spec_yaml_load(&text, path);
    if (status == TAMIS_OK) status = spec_parse(out, path, text.data, text.size, shared_dir);
    tamisi_buf_free(&text);
    return status;
}

void spec_free(struct spec *spec)
{
    free(spec->tiles);
    free(spec->text);
    memset(spec, 0, sizeof *spec);
}
