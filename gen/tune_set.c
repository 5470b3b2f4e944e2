/*
 * tune_set.c: see tune_set.h.
 */
#define _GNU_SOURCE
#include "tune_set.h"

#include "data.h"
#include "error.h"
#include "space.h"
#include "spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double usual_ratios[] = {0.75, 0.5, 0.25};

static void take_ratios(struct tune_set *set, const double *ratios, int count)
{
    set->ratio_count = count < BENCH_MAX_LIST ? count : BENCH_MAX_LIST;
    memcpy(set->ratios, ratios, (size_t)set->ratio_count * sizeof *ratios);
}

/* The spec as the store has its text, whose own tile files are looked for beside the store. */
static tamis_status parse_stored(struct spec *out, const struct data *data, tamis_store *store, const char *text)
{
    return spec_parse(out, tamisi_store_path(store), text, strlen(text), data->specs_dir);
}

/* The ratios are in the spec's text alone, which may name tile files that are not here. */
static void read_ratios(struct tune_set *set, tamis_store *store, const char *text)
{
    struct data data;
    struct spec spec;
    take_ratios(set, usual_ratios, sizeof usual_ratios / sizeof *usual_ratios);
    if (data_find(&data) == TAMIS_OK && parse_stored(&spec, &data, store, text) == TAMIS_OK) {
        take_ratios(set, spec.ratios, spec.ratio_count);
        spec_free(&spec);
    }
    tamisi_error_clear();
}

static tamis_status find_variants(struct tune_set *set, tamis_store *store, const char *arch)
{
    const struct tamisi_variant_query query = {.spec = set->spec, .arch = arch, .dtype = -1, .head_dim = -1};
    free(set->variants);
    set->variants = NULL;
    return tamisi_store_find_variants(&set->variants, &set->count, store, &query);
}

/* ---- generating */

static tamis_status put_space(tamis_store *store, const struct spec *spec, const struct space *space,
                              const char *const *archs)
{
    TAMIS_TRY(tamisi_store_begin(store));
    const tamis_status status = space_put(store, spec, space, archs);
    if (status == TAMIS_OK) return tamisi_store_commit(store);
    tamisi_store_rollback(store);
    return status;
}

static int expand(struct cli *cli, tamis_store *store, const struct spec *spec, const struct data *data, const char *arch)
{
    const char *const archs[] = {arch, NULL};
    const struct space_options options = {data->templates_dir, data->abi_dir, archs, false};
    struct space space;
    tamis_status status = space_make(&space, spec, &options);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    status = put_space(store, spec, &space, archs);
    if (status == TAMIS_OK)
        cli_note(cli, "%s: %zu variants of %s for %s generated", tamisi_store_path(store), space.variant_count, spec->name,
                 arch);
    space_free(&space);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

/* From a file, or one of specs/. */
static tamis_status read_named(struct spec *out, const struct data *data, const char *name)
{
    char path[PATH_MAX + 80];
    TAMIS_TRY(data_spec_path(path, data, name));
    return spec_read(out, path, data->specs_dir);
}

/* Of a spec that the store has, from its text there: one of the same name in specs/ may say other things. */
static tamis_status read_stored(struct spec *out, const struct data *data, tamis_store *store, const char *name)
{
    struct tamisi_spec_row row;
    TAMIS_TRY(tamisi_store_get_spec(&row, store, name));
    const tamis_status status = parse_stored(out, data, store, row.text);
    tamisi_spec_row_free(&row);
    return status;
}

static int generate(struct tune_set *set, struct cli *cli, tamis_store *store, const char *name, const char *arch)
{
    struct data data;
    struct spec spec;
    tamis_status status = data_find(&data);
    if (status == TAMIS_OK)
        status = set->spec[0] ? read_stored(&spec, &data, store, set->spec) : read_named(&spec, &data, name);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    const int code = expand(cli, store, &spec, &data, arch);
    snprintf(set->spec, sizeof set->spec, "%s", spec.name);
    set->problem = spec.problem;
    set->pattern = spec.pattern;
    take_ratios(set, spec.ratios, spec.ratio_count);
    spec_free(&spec);
    return code;
}

/* ---- all */

static bool stored(struct tune_set *set, tamis_store *store, const char *name)
{
    struct tamisi_spec_row row;
    if (tamisi_store_get_spec(&row, store, name) != TAMIS_OK) return false;
    snprintf(set->spec, sizeof set->spec, "%s", row.name);
    set->problem = row.problem;
    read_ratios(set, store, row.text);
    tamisi_spec_row_free(&row);
    return true;
}

int tune_set_open(struct tune_set *out, struct cli *cli, tamis_store *store, const char *name, const char *arch)
{
    *out = (struct tune_set){.pattern = TAMIS_PATTERN_INIT};
    const bool there = stored(out, store, name);
    if (!there && !name) return cli_fail_as(cli, CLI_FAILED);
    tamis_status status = there ? tamis_store_pattern(&out->pattern, store, out->spec) : TAMIS_OK;
    if (there && status == TAMIS_OK) status = find_variants(out, store, arch);
    if (status == TAMIS_OK && out->count == 0) {
        const int code = generate(out, cli, store, name, arch);
        if (code != CLI_OK) return code;
        status = find_variants(out, store, arch);
    }
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

void tune_set_free(struct tune_set *set)
{
    free(set->variants);
    *set = (struct tune_set){.count = 0};
}
