/*
 * fuzz_spec.c: any bytes as a spec file. They are refused with one line that says where, or what was read holds what its
 * users rely on: names that are safe in file names, numbers in range, every tile complete; and its sparse layers can be
 * written anew, or that is refused.
 */
#include "schema.h"
#include "spec.h"
#include "spec_edit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int holds)
{
    if (!holds) abort();
}

static void check_message(const char *message)
{
    demand(strncmp(message, "fuzz.yaml:", 10) == 0 || strstr(message, ".yaml:") != NULL);
    for (; *message; message++) demand((unsigned char)*message >= ' ');
}

static void check_tile(const struct spec_tile *tile)
{
    const struct schema_template *template = schema_template_find(tile->template_name);
    demand(template && strcmp(template->family, tile->family) == 0);
    for (int i = 0; i < tile->param_count; i++) {
        const struct spec_param *param = &tile->params[i];
        const struct schema_param *schema = schema_param_find(tile->template_name, param->name);
        demand(schema && param->value_count >= 1 && param->value_count <= SPEC_MAX_VALUES);
        for (int j = 0; j < param->value_count; j++)
            demand(param->values[j] >= schema->low && param->values[j] <= schema->high);
    }
    int wanted = 0;
    for (const struct schema_param *at = schema_params; at->name; at++)
        wanted += strcmp(at->template_name, tile->template_name) == 0;
    demand(tile->param_count == wanted);
}

static void check_spec(const struct spec *spec)
{
    const tamis_problem *problem = &spec->problem;
    const tamis_selection *selection = &problem->selection;
    demand(spec->name[0] && !strchr(spec->name, '/') && spec->name[0] != '.');
    demand(problem->kv_heads >= 1 && problem->q_heads % problem->kv_heads == 0);
    demand(problem->head_dim == 64 || problem->head_dim == 96 || problem->head_dim == 128 || problem->head_dim == 256);
    demand(problem->scale >= 0 && problem->scale <= 1000);
    demand(selection->policy != TAMIS_DENSE && selection->pool % 2 == 1);
    demand(selection->coverage >= 0 && selection->coverage < 1 && selection->ratio > 0 && selection->ratio <= 1);
    demand(spec->dtype_count >= 1 && spec->dtype_count <= SPEC_MAX_DTYPES);
    demand(spec->arch_count >= 1 && spec->arch_count <= SPEC_MAX_ARCHS && spec->ratio_count >= 1);
    demand(spec->tile_count >= 1);
    for (size_t i = 0; i < spec->tile_count; i++) check_tile(&spec->tiles[i]);
}

/* Once more into what was written changes nothing. */
static void check_edit(const char *text, size_t size)
{
    struct tamisi_buf once = TAMISI_BUF_INIT, twice = TAMISI_BUF_INIT;
    if (spec_edit_layers(&once, "fuzz.yaml", text, size, NULL, "0") == TAMIS_OK) {
        demand(spec_edit_layers(&twice, "fuzz.yaml", once.data, once.size, NULL, "0") == TAMIS_OK);
        demand(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    } else {
        check_message(tamis_last_error());
    }
    tamisi_buf_free(&once);
    tamisi_buf_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct spec spec;
    if (spec_parse(&spec, "fuzz.yaml", (const char *)data, size, NULL) != TAMIS_OK) {
        check_message(tamis_last_error());
        return 0;
    }
    check_spec(&spec);
    demand(strlen(spec.text) == size && memcmp(spec.text, data, size) == 0);
    check_edit(spec.text, size);
    spec_free(&spec);
    return 0;
}
