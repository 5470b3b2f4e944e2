/*
 * export_set.c: choosing what of a store is shipped, and whether it is whole: a bundle that lacks what its table promises
 * would be found out by the user of a host, far from whoever made it.
 */
#define _GNU_SOURCE
#include "export.h"

#include "compile.h"
#include "error.h"
#include "gpu.h"

#include <stdlib.h>
#include <string.h>

/* ---- specs */

/* The names of the store's specs; and what is damaged of that which cannot be missed later. */
struct names {
    char **names;
    size_t count;
    long long damaged;
    bool failed;
};

static int add_name(void *payload, const struct tamisi_store_item *item)
{
    struct names *list = payload;
    const bool spec = strcmp(item->kind, "spec") == 0;
    list->damaged += !item->intact && (spec || strcmp(item->kind, "variant") == 0);
    if (!spec || !item->intact) return 0;
    char **names = realloc(list->names, (list->count + 1) * sizeof *names);
    if (names) list->names = names;
    char *name = names ? strdup(item->name) : NULL;
    list->failed = name == NULL;
    if (name) names[list->count++] = name;
    return list->failed;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static tamis_status get_specs(struct export_set *set, const struct names *list)
{
    set->specs = calloc(list->count + 1, sizeof *set->specs);
    if (!set->specs) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the specs");
    for (size_t i = 0; i < list->count; i++) {
        TAMIS_TRY(tamisi_store_get_spec(&set->specs[i], set->store, list->names[i]));
        set->spec_count++;
    }
    return TAMIS_OK;
}

static int choose_specs(struct cli *cli, struct export_set *set, const struct export_choice *choice)
{
    struct names list = {NULL, 0, 0, false};
    tamis_status status = tamisi_store_visit(set->store, add_name, &list);
    if (status == TAMIS_OK && list.failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory for the specs");
    int code = CLI_OK;
    if (status == TAMIS_OK && list.damaged > 0)
        code = cli_error(cli, CLI_FAILED, "%s: %lld specs or variants are damaged: 'tamis cache gc' drops them, 'tamis gen' "
                                          "makes them anew", tamisi_store_path(set->store), list.damaged);
    if (status == TAMIS_OK && code == CLI_OK) {
        char *only[] = {NULL};
        const struct names one = {only, 1, 0, false};
        if (list.count > 1) qsort(list.names, list.count, sizeof *list.names, compare_names);
        memcpy(only, &choice->spec, sizeof *only);
        status = get_specs(set, choice->spec ? &one : &list);
    }
    for (size_t i = 0; i < list.count; i++) free(list.names[i]);
    free(list.names);
    return status == TAMIS_OK ? code : cli_fail(cli, status);
}

/* ---- variants */

/* Families of plans, that is, and no others, as drift. */
static bool is_operators(const char *family)
{
    for (int i = 0; i < TAMISI_ALL_FAMILIES; i++)
        if (strcmp(family, tamisi_gpu_families[i]) == 0) return true;
    return strcmp(family, TAMISI_MAP_FAMILY) == 0;
}

static void filter(struct export_set *set, const struct export_choice *choice)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->variant_count; i++) {
        const struct tamisi_variant *variant = &set->variants[i];
        if (!arch_list_has(&choice->archs, variant->arch) || (choice->defaults_only && variant->rank > 0)) continue;
        if (choice->operator_only && !is_operators(variant->family)) continue;
        if (kept != i) set->variants[kept] = *variant;
        kept++;
    }
    set->variant_count = kept;
}

static bool has_arch(const struct export_set *set, const char *arch)
{
    for (size_t i = 0; i < set->variant_count; i++)
        if (strcmp(set->variants[i].arch, arch) == 0) return true;
    return false;
}

static int choose_variants(struct cli *cli, struct export_set *set, const struct export_choice *choice)
{
    const struct tamisi_variant_query query = {.spec = choice->spec, .dtype = -1, .head_dim = -1};
    const char *path = tamisi_store_path(set->store);
    const tamis_status status = tamisi_store_find_variants(&set->variants, &set->variant_count, set->store, &query);
    if (status != TAMIS_OK) return cli_fail(cli, status);
    filter(set, choice);
    for (const char *const *arch = choice->archs.names; *arch; arch++)
        if (!has_arch(set, *arch))
            return cli_error(cli, CLI_FAILED, "%s has no variants for %s: run tamis gen with --arch %s", path, *arch, *arch);
    if (set->variant_count == 0) return cli_error(cli, CLI_FAILED, "%s has no variants to export", path);
    return CLI_OK;
}

int export_choose(struct cli *cli, struct export_set *out, tamis_store *store, const struct export_choice *choice)
{
    *out = (struct export_set){.store = store};
    const int code = choose_specs(cli, out, choice);
    return code == CLI_OK ? choose_variants(cli, out, choice) : code;
}

void export_set_free(struct export_set *set)
{
    for (size_t i = 0; i < set->spec_count; i++) tamisi_spec_row_free(&set->specs[i]);
    free(set->specs);
    free(set->variants);
    *set = (struct export_set){.store = NULL};
}

/* ---- cubins */

tamis_status export_get_cubin(struct tamisi_cubin *out, const struct export_set *set, const struct tamisi_variant *variant)
{
    char options[TAMISI_OPTIONS_SIZE];
    tamisi_compile_options(options, variant->arch);
    return tamisi_store_get_cubin(out, set->store, &variant->source, variant->arch, options, NULL);
}

int export_check_cubins(struct cli *cli, const struct export_set *set)
{
    const struct tamisi_variant *first = NULL;
    size_t missing = 0;
    for (size_t i = 0; i < set->variant_count; i++) {
        struct tamisi_cubin cubin = {0};
        const tamis_status status = export_get_cubin(&cubin, set, &set->variants[i]);
        tamisi_cubin_free(&cubin);
        if (status != TAMIS_OK && status != TAMIS_ENOTFOUND) return cli_fail(cli, status);
        if (status == TAMIS_OK) continue;
        if (!first) first = &set->variants[i];
        missing++;
    }
    if (!first) return CLI_OK;
    return cli_error(cli, CLI_COMPILE,
                     "%s: %zu of %zu variants are not compiled, %s for %s the first: 'tamis gen' compiles them",
                     tamisi_store_path(set->store), missing, set->variant_count, first->name, first->arch);
}
