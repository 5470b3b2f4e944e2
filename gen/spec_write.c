/*
 * spec_write.c: writing specs. Order and names are the schema's; numbers are written so that they read back to the bit.
 */
#include "spec_write.h"

#include "plan.h"
#include "spec_pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest of the usual precisions that reads back to the same number. */
static const char *real_text(char out[40], double value)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, 40, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    return out;
}

static void put_quoted(struct tamisi_buf *out, const char *text)
{
    tamisi_buf_puts(out, "'");
    for (; *text; text++) {
        tamisi_buf_append(out, text, 1);
        if (*text == '\'') tamisi_buf_append(out, text, 1);
    }
    tamisi_buf_puts(out, "'");
}

static const char *comma(int i) { return i ? ", " : ""; }

static void put_dtypes(struct tamisi_buf *out, const char *key, const tamis_dtype *dtypes, int count)
{
    tamisi_buf_printf(out, "%s: [", key);
    for (int i = 0; i < count; i++) tamisi_buf_printf(out, "%s%s", comma(i), spec_dtype_name(dtypes[i]));
    tamisi_buf_puts(out, "]\n");
}

static void put_archs(struct tamisi_buf *out, const char *key, const char archs[][16], int count)
{
    tamisi_buf_printf(out, "%s: [", key);
    for (int i = 0; i < count; i++) tamisi_buf_printf(out, "%s%s", comma(i), archs[i]);
    tamisi_buf_puts(out, "]\n");
}

static void put_selection(struct tamisi_buf *out, const struct spec *spec)
{
    const tamis_selection *selection = &spec->problem.selection;
    char text[40];
    tamisi_buf_puts(out, "selection:\n");
    if (selection->policy == TAMIS_COVERAGE)
        tamisi_buf_printf(out, "  coverage: %s\n", real_text(text, selection->coverage));
    else if (selection->policy == TAMIS_RATIO)
        tamisi_buf_printf(out, "  ratio: %s\n", real_text(text, selection->ratio));
    else if (selection->policy == TAMIS_COUNT)
        tamisi_buf_printf(out, "  count: %lld\n", (long long)selection->count);
    tamisi_buf_printf(out, "  scope: %s\n  window: %d\n  pool: %d\n  min_tokens: %lld\n  ratios: [",
                      spec_scope_name(selection->scope), selection->window, selection->pool,
                      (long long)selection->min_tokens);
    for (int i = 0; i < spec->ratio_count; i++)
        tamisi_buf_printf(out, "%s%s", comma(i), real_text(text, spec->ratios[i]));
    tamisi_buf_puts(out, "]\n");
}

static void put_pattern(struct tamisi_buf *out, const struct spec *spec)
{
    char text[40];
    if (spec->pattern.kind == TAMIS_PATTERN_NONE) return;
    tamisi_buf_printf(out, "pattern:\n  kind: %s\n", tamisi_pattern_name(spec->pattern.kind));
    for (int i = 0; i < schema_key_count; i++) {
        double value;
        if (!spec_pattern_member(&value, &spec->pattern, &schema_keys[i])) continue;
        if (schema_keys[i].type == SCHEMA_INT)
            tamisi_buf_printf(out, "  %s: %.0f\n", schema_keys[i].key, value);
        else
            tamisi_buf_printf(out, "  %s: %s\n", schema_keys[i].key, real_text(text, value));
    }
}

static void put_param(struct tamisi_buf *out, const struct spec_param *param)
{
    tamisi_buf_printf(out, "%s: [", param->name);
    for (int i = 0; i < param->value_count; i++) tamisi_buf_printf(out, "%s%ld", comma(i), param->values[i]);
    tamisi_buf_puts(out, "]");
}

static void put_tile(struct tamisi_buf *out, const struct spec_tile *tile)
{
    tamisi_buf_printf(out, "  - family: %s\n    template: %s\n", tile->family, tile->template_name);
    if (tile->arch_count) put_archs(out, "    archs", tile->archs, tile->arch_count);
    if (tile->head_dim_count) {
        tamisi_buf_puts(out, "    head_dims: [");
        for (int i = 0; i < tile->head_dim_count; i++) tamisi_buf_printf(out, "%s%d", comma(i), tile->head_dims[i]);
        tamisi_buf_puts(out, "]\n");
    }
    if (tile->dtype_count) put_dtypes(out, "    dtypes", tile->dtypes, tile->dtype_count);
    tamisi_buf_puts(out, "    params: {");
    for (int i = 0; i < tile->param_count; i++) {
        tamisi_buf_puts(out, comma(i));
        put_param(out, &tile->params[i]);
    }
    tamisi_buf_puts(out, "}\n");
    if (!tile->reason[0]) return;
    tamisi_buf_puts(out, "    reason: ");
    put_quoted(out, tile->reason);
    tamisi_buf_puts(out, "\n");
}

/* A list of numbers and ranges has no blanks, so it is a plain scalar or, with commas, the inside of a list. */
static void put_layers(struct tamisi_buf *out, const struct spec *spec)
{
    if (spec->layers) tamisi_buf_printf(out, "layers: %d\n", spec->layers);
    if (spec->sparse_layers[0]) tamisi_buf_printf(out, "sparse_layers: [%s]\n", spec->sparse_layers);
}

void spec_write_yaml(struct tamisi_buf *out, const struct spec *spec)
{
    const tamis_problem *problem = &spec->problem;
    char text[40];
    tamisi_buf_printf(out, "name: %s\n", spec->name);
    put_layers(out, spec);
    put_dtypes(out, "dtypes", spec->dtypes, spec->dtype_count);
    tamisi_buf_printf(out, "attention:\n  q_heads: %d\n  kv_heads: %d\n  head_dim: %d\n", problem->q_heads,
                      problem->kv_heads, problem->head_dim);
    if (problem->scale > 0) tamisi_buf_printf(out, "  scale: %s\n", real_text(text, problem->scale));
    put_selection(out, spec);
    put_pattern(out, spec);
    if (spec->output_map) tamisi_buf_puts(out, "output_map: true\n");
    put_archs(out, "archs", spec->archs, spec->arch_count);
    tamisi_buf_puts(out, "tiles:\n");
    for (size_t i = 0; i < spec->tile_count; i++) put_tile(out, &spec->tiles[i]);
}

static void json_tile(struct json *json, const struct spec_tile *tile)
{
    json_object(json, NULL);
    json_string(json, "family", tile->family);
    json_string(json, "template", tile->template_name);
    json_array(json, "archs");
    for (int i = 0; i < tile->arch_count; i++) json_string(json, NULL, tile->archs[i]);
    json_array_end(json);
    json_array(json, "head_dims");
    for (int i = 0; i < tile->head_dim_count; i++) json_int(json, NULL, tile->head_dims[i]);
    json_array_end(json);
    json_array(json, "dtypes");
    for (int i = 0; i < tile->dtype_count; i++) json_string(json, NULL, spec_dtype_name(tile->dtypes[i]));
    json_array_end(json);
    json_object(json, "params");
    for (int i = 0; i < tile->param_count; i++) {
        json_array(json, tile->params[i].name);
        for (int j = 0; j < tile->params[i].value_count; j++) json_int(json, NULL, tile->params[i].values[j]);
        json_array_end(json);
    }
    json_object_end(json);
    json_string(json, "reason", tile->reason);
    json_object_end(json);
}

static void json_selection(struct json *json, const struct spec *spec)
{
    const tamis_selection *selection = &spec->problem.selection;
    json_object(json, "selection");
    json_string(json, "policy", spec_policy_name(selection->policy));
    if (selection->policy == TAMIS_COVERAGE) json_real(json, "coverage", selection->coverage);
    if (selection->policy == TAMIS_RATIO) json_real(json, "ratio", selection->ratio);
    if (selection->policy == TAMIS_COUNT) json_int(json, "count", selection->count);
    json_string(json, "scope", spec_scope_name(selection->scope));
    json_int(json, "window", selection->window);
    json_int(json, "pool", selection->pool);
    json_int(json, "min_tokens", selection->min_tokens);
    json_array(json, "ratios");
    for (int i = 0; i < spec->ratio_count; i++) json_real(json, NULL, spec->ratios[i]);
    json_array_end(json);
    json_object_end(json);
}

static void json_pattern(struct json *json, const struct spec *spec)
{
    if (spec->pattern.kind == TAMIS_PATTERN_NONE) return;
    json_object(json, "pattern");
    json_string(json, "kind", tamisi_pattern_name(spec->pattern.kind));
    for (int i = 0; i < schema_key_count; i++) {
        double value;
        if (!spec_pattern_member(&value, &spec->pattern, &schema_keys[i])) continue;
        if (schema_keys[i].type == SCHEMA_INT)
            json_int(json, schema_keys[i].key, (long long)value);
        else
            json_real(json, schema_keys[i].key, value);
    }
    json_object_end(json);
}

void spec_write_json(struct json *json, const struct spec *spec)
{
    json_string(json, "name", spec->name);
    json_int(json, "layers", spec->layers);
    json_string(json, "sparse_layers", spec->sparse_layers);
    json_array(json, "dtypes");
    for (int i = 0; i < spec->dtype_count; i++) json_string(json, NULL, spec_dtype_name(spec->dtypes[i]));
    json_array_end(json);
    json_int(json, "q_heads", spec->problem.q_heads);
    json_int(json, "kv_heads", spec->problem.kv_heads);
    json_int(json, "head_dim", spec->problem.head_dim);
    json_real(json, "scale", spec->problem.scale);
    json_selection(json, spec);
    json_pattern(json, spec);
    json_bool(json, "output_map", spec->output_map);
    json_array(json, "archs");
    for (int i = 0; i < spec->arch_count; i++) json_string(json, NULL, spec->archs[i]);
    json_array_end(json);
    json_array(json, "tiles");
    for (size_t i = 0; i < spec->tile_count; i++) json_tile(json, &spec->tiles[i]);
    json_array_end(json);
}
