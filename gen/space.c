/*
 * space.c: enumerates a spec's tile entries into named variants, expands each one's template and drops what cannot be built.
 * Decides nothing about speed: order comes from the spec. Top of the template modules; commands and tuning use it.
 */
#include "space.h"

#include "error.h"
#include "hash.h"
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COMBINATIONS 4096    /* of one tile entry */
#define OUTPUT_MAP "output_map"  /* the templates' parameter and the spec's key */
#define FIXED_PARAMS 7           /* what every template gets beside its tile parameters */

static const struct arch_limits {
    const char *arch;
    int cc;
    long shared_bytes; /* a block, opted in */
} arch_table[] = {{"sm_80", 80, 163 * 1024},   {"sm_86", 86, 99 * 1024},   {"sm_89", 89, 99 * 1024},
                  {"sm_90a", 90, 227 * 1024}, {"sm_100", 100, 227 * 1024}, {"sm_120", 120, 99 * 1024}};

static const struct family_needs {
    const char *family;
    bool dtype, head_dim; /* does its text depend on them? */
    bool optional;        /* no part of every operator: a spec may have no tile for it */
    const char *tiles;    /* the family whose entries serve it; NULL: its own */
} family_table[] = {{"score", true, true, false, NULL},
                    {"select", false, false, false, NULL},
                    {"compress", false, true, false, NULL}, /* moves 16-bit elements as bits */
                    {"attend", true, true, false, NULL},
                    {"decompress", false, true, false, NULL},
                    {"drift", true, false, true, NULL},
                    {"blocks", false, false, true, NULL},
                    {"attend_blocks", true, true, true, NULL},
                    {"pattern", true, true, true, NULL},
                    {"pattern_lines", true, true, true, NULL},
                    {"pattern_heads", true, true, true, NULL},
                    {"pattern_xattn", true, true, true, NULL},
                    {TAMISI_MAP_FAMILY, true, true, false, "attend"}};

/* One family on one architecture with one dtype, and where its variants stand in the space. */
struct combination {
    const struct spec *spec;
    const struct space_options *options;
    const struct family_needs *family;
    const struct arch_limits *arch;
    int dtype;            /* or TAMISI_ANY */
    int head_dim;         /* or 0 */
    size_t first_variant; /* of the space: all from here on are of this combination, */
    size_t first_rejection; /* here too */
};

static const struct arch_limits *find_arch(const char *arch)
{
    for (size_t i = 0; i < sizeof arch_table / sizeof arch_table[0]; i++)
        if (strcmp(arch_table[i].arch, arch) == 0) return &arch_table[i];
    return NULL;
}

static const struct family_needs *find_family(const char *family)
{
    for (size_t i = 0; i < sizeof family_table / sizeof family_table[0]; i++)
        if (strcmp(family_table[i].family, family) == 0) return &family_table[i];
    return NULL;
}

long space_shared_limit(const char *arch)
{
    const struct arch_limits *limits = find_arch(arch);
    return limits ? limits->shared_bytes : 0;
}

/* ---- which entries apply, and the values of one point of their product */

static bool tile_matches_dtype(const struct spec_tile *tile, const struct combination *combination)
{
    const struct spec *spec = combination->spec;
    bool matches = tile->dtype_count == 0;
    for (int i = 0; i < tile->dtype_count; i++) {
        if (combination->dtype != TAMISI_ANY) {
            matches = matches || (int)tile->dtypes[i] == combination->dtype;
            continue;
        }
        for (int j = 0; j < spec->dtype_count; j++) matches = matches || tile->dtypes[i] == spec->dtypes[j];
    }
    return matches;
}

static bool tile_matches(const struct spec_tile *tile, const struct combination *combination)
{
    bool arch = tile->arch_count == 0, head_dim = tile->head_dim_count == 0;
    for (int i = 0; i < tile->arch_count; i++) arch = arch || strcmp(tile->archs[i], combination->arch->arch) == 0;
    for (int i = 0; i < tile->head_dim_count; i++)
        head_dim = head_dim || tile->head_dims[i] == (int)combination->spec->problem.head_dim;
    const struct family_needs *family = combination->family;
    return strcmp(tile->family, family->tiles ? family->tiles : family->family) == 0 && arch && head_dim &&
           tile_matches_dtype(tile, combination);
}

/* How many points the product of an entry's values has, MAX_COMBINATIONS + 1 if more than that. */
static long count_points(const struct spec_tile *tile)
{
    long points = 1;
    for (int i = 0; i < tile->param_count && points <= MAX_COMBINATIONS; i++) points *= tile->params[i].value_count;
    return points <= MAX_COMBINATIONS ? points : MAX_COMBINATIONS + 1;
}

/* Values of point `point`: the last parameter varies fastest. */
static void read_point(const struct spec_tile *tile, long point, long values[SPEC_MAX_PARAMS])
{
    for (int i = tile->param_count - 1; i >= 0; i--) {
        values[i] = tile->params[i].values[point % tile->params[i].value_count];
        point /= tile->params[i].value_count;
    }
}

/* ---- names */

/* The first letters of a parameter's words, `letters` of the first one: "q_in_registers" gives "qir". */
static void abbreviate(char out[32], const char *name, size_t letters)
{
    size_t bytes = 0;
    const size_t first_word = strcspn(name, "_");
    while (bytes < letters && bytes < first_word && bytes < 31) {
        out[bytes] = name[bytes];
        bytes++;
    }
    for (const char *at = name; *at; at++)
        if (at > name && at[-1] == '_' && *at != '_' && bytes < 31) out[bytes++] = *at;
    out[bytes] = '\0';
}

/* The shortest abbreviation that no other of the entry shares: stats_block_m and sum_block_m give stbm, subm. */
static void abbreviate_unique(char out[32], const struct spec_tile *tile, int index)
{
    for (size_t letters = 1; letters < 32; letters++) {
        bool shared = false;
        abbreviate(out, tile->params[index].name, letters);
        for (int i = 0; i < tile->param_count; i++) {
            char other[32];
            abbreviate(other, tile->params[i].name, letters);
            shared = shared || (i != index && strcmp(out, other) == 0);
        }
        if (!shared) return;
    }
    snprintf(out, 32, "%s", tile->params[index].name);
}

/* Set the variant's name and params from a point; they are one to one within an entry. */
static tamis_status name_variant(struct tamisi_variant *variant, const struct combination *combination,
                                 const struct spec_tile *tile, const long values[SPEC_MAX_PARAMS])
{
    char name[512], params[1024];
    size_t name_used = (size_t)snprintf(name, sizeof name, "%s", tile->template_name), params_used = 0;
    if (combination->dtype != TAMISI_ANY)
        name_used += (size_t)snprintf(name + name_used, sizeof name - name_used, "_%s",
                                      spec_dtype_name((tamis_dtype)combination->dtype));
    if (combination->head_dim)
        name_used += (size_t)snprintf(name + name_used, sizeof name - name_used, "_d%d", combination->head_dim);
    params[0] = '\0';
    for (int i = 0; i < tile->param_count && name_used < sizeof name && params_used < sizeof params; i++) {
        char short_name[32];
        abbreviate_unique(short_name, tile, i);
        name_used += (size_t)snprintf(name + name_used, sizeof name - name_used, values[i] < 0 ? "_%sn%ld" : "_%s%ld",
                                      short_name, labs(values[i]));
        params_used += (size_t)snprintf(params + params_used, sizeof params - params_used, "%s%s=%ld", i ? " " : "",
                                        tile->params[i].name, values[i]);
    }
    if (name_used >= sizeof variant->name || params_used >= sizeof variant->params)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: the parameters of %s make too long a name", tile->file, tile->line,
                           tile->family);
    memcpy(variant->name, name, name_used + 1);
    memcpy(variant->params, params, params_used + 1);
    return TAMIS_OK;
}

/* ---- one variant */

static void add_int(struct template_param *params, int *count, const char *name, long value)
{
    struct template_param *param = &params[(*count)++];
    memset(param, 0, sizeof *param);
    snprintf(param->name, sizeof param->name, "%s", name);
    param->value = value;
}

static void add_text(struct template_param *params, int *count, const char *name, const char *text)
{
    add_int(params, count, name, 0);
    snprintf(params[*count - 1].text, sizeof params[0].text, "%s", text);
}

static tamis_status expand_variant(struct template_output *out, const struct tamisi_variant *variant,
                                   const struct combination *combination, const struct spec_tile *tile,
                                   const long values[SPEC_MAX_PARAMS])
{
    struct template_param params[SPEC_MAX_PARAMS + FIXED_PARAMS];
    int count = 0;
    add_text(params, &count, "name", variant->name);
    add_text(params, &count, "arch", combination->arch->arch);
    add_int(params, &count, "cc", combination->arch->cc);
    add_int(params, &count, "shared_limit", combination->arch->shared_bytes);
    if (combination->dtype != TAMISI_ANY)
        add_text(params, &count, "dtype", spec_dtype_name((tamis_dtype)combination->dtype));
    if (combination->head_dim) add_int(params, &count, "head_dim", combination->head_dim);
    for (int i = 0; i < tile->param_count; i++) add_int(params, &count, tile->params[i].name, values[i]);
    if (strcmp(combination->family->family, "attend") == 0) add_int(params, &count, OUTPUT_MAP, 0);

    /* Not the spec's name: the same kernel of two specs is the same text, compiled once. */
    char banner[320];
    snprintf(banner, sizeof banner, "made by: tamis show SPEC --variant %s --arch %s", variant->name, combination->arch->arch);
    const struct template_request request = {.templates_dir = combination->options->templates_dir,
                                             .abi_dir = combination->options->abi_dir,
                                             .family = tile->template_name,
                                             .params = params,
                                             .param_count = count,
                                             .banner = banner};
    return template_expand(out, &request);
}

/* Room for one more element at the end of an array whose size grows in powers of two. */
static void *grow(void *array, size_t count, size_t element_bytes)
{
    if (count & (count - 1)) return array;
    return realloc(array, (count ? 2 * count : 1) * element_bytes);
}

static tamis_status add_rejection(struct space *space, const struct tamisi_variant *variant, const char *reason)
{
    struct space_rejection *grown = grow(space->rejections, space->rejection_count, sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the variants");
    space->rejections = grown;
    struct space_rejection *rejection = &grown[space->rejection_count++];
    memset(rejection, 0, sizeof *rejection);
    memcpy(rejection->name, variant->name, sizeof rejection->name);
    memcpy(rejection->arch, variant->arch, sizeof rejection->arch);
    snprintf(rejection->reason, sizeof rejection->reason, "%s", reason);
    return TAMIS_OK;
}

/* Takes the texts of `output` over. */
static tamis_status add_variant(struct space *space, const struct tamisi_variant *variant, struct template_output *output,
                                const char *reason)
{
    struct space_variant *grown = grow(space->variants, space->variant_count, sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the variants");
    space->variants = grown;
    struct space_variant *added = &grown[space->variant_count];
    memset(added, 0, sizeof *added);
    added->variant = *variant;
    added->variant.source = tamisi_hash_bytes(output->text.data, output->text.size);
    added->variant.entry_count = output->entry_count;
    memcpy(added->variant.entries, output->entries, sizeof added->variant.entries);
    snprintf(added->reason, sizeof added->reason, "%s", reason);
    added->text = tamisi_buf_take(&output->text);
    added->lined = tamisi_buf_take(&output->lined);
    space->variant_count++;
    return added->text && added->lined ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory for the variants");
}

static bool fits_shared(char reason[160], const struct template_output *output, const struct arch_limits *arch)
{
    for (int i = 0; i < output->entry_count; i++) {
        const struct tamisi_entry *entry = &output->entries[i];
        if (entry->shared_bytes <= arch->shared_bytes) continue;
        snprintf(reason, 160, "%s needs %d bytes of shared memory, %s has %ld a block", entry->stage, entry->shared_bytes,
                 arch->arch, arch->shared_bytes);
        return false;
    }
    return true;
}

static tamis_status make_variant(struct space *space, struct tamisi_variant *variant, const struct combination *combination,
                                 const struct spec_tile *tile, const long values[SPEC_MAX_PARAMS])
{
    struct template_output output;
    char reason[160];
    TAMIS_TRY(expand_variant(&output, variant, combination, tile, values));
    tamis_status status;
    variant->rank = (int)(space->variant_count - combination->first_variant);
    if (output.rejected)
        status = add_rejection(space, variant, output.reason);
    else if (!fits_shared(reason, &output, combination->arch))
        status = add_rejection(space, variant, reason);
    else
        status = add_variant(space, variant, &output, tile->reason);
    template_output_free(&output);
    return status;
}

/* ---- all of them */

/* Was this point met before, in another entry? An equal name with other parameters would mix two kernels up. */
static tamis_status check_met(bool *met, const struct space *space, const struct combination *combination,
                              const struct tamisi_variant *variant, const struct spec_tile *tile)
{
    *met = false;
    for (size_t i = combination->first_rejection; i < space->rejection_count; i++)
        *met = *met || strcmp(space->rejections[i].name, variant->name) == 0;
    for (size_t i = combination->first_variant; i < space->variant_count && !*met; i++) {
        const struct tamisi_variant *other = &space->variants[i].variant;
        *met = strcmp(other->name, variant->name) == 0;
        if (*met && strcmp(other->params, variant->params) != 0)
            return tamisi_fail(TAMIS_EINVAL, "%s:%d: \"%s\" and \"%s\" are both named %s", tile->file, tile->line,
                               other->params, variant->params, variant->name);
    }
    return TAMIS_OK;
}

static void set_variant(struct tamisi_variant *variant, const struct combination *combination)
{
    memset(variant, 0, sizeof *variant);
    snprintf(variant->spec, sizeof variant->spec, "%s", combination->spec->name);
    snprintf(variant->family, sizeof variant->family, "%s", combination->family->family);
    snprintf(variant->arch, sizeof variant->arch, "%s", combination->arch->arch);
    variant->dtype = combination->dtype;
    variant->head_dim = combination->head_dim;
    variant->abi = tamisi_family_abi(variant->family);
}

/* An entry of attend as one of attend_map: the parameter that tells the two apart, in its place among the others. */
static tamis_status add_map(struct spec_tile *out, const struct spec_tile *tile)
{
    const struct spec_param map = {.name = OUTPUT_MAP, .values = {1}, .value_count = 1};
    int at = tile->param_count;
    if (at == SPEC_MAX_PARAMS)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: no room for a parameter more", tile->file, tile->line);
    *out = *tile;
    for (; at > 0 && strcmp(out->params[at - 1].name, map.name) > 0; at--) out->params[at] = out->params[at - 1];
    out->params[at] = map;
    out->param_count++;
    return TAMIS_OK;
}

static tamis_status make_tile(struct space *space, const struct combination *combination, const struct spec_tile *tile)
{
    const long points = count_points(tile);
    if (points > MAX_COMBINATIONS)
        return tamisi_fail(TAMIS_EINVAL, "%s:%d: the values make more than %d variants of %s", tile->file, tile->line,
                           MAX_COMBINATIONS, tile->family);
    for (long point = 0; point < points; point++) {
        if (combination->options->defaults_only && space->variant_count > combination->first_variant) break;
        long values[SPEC_MAX_PARAMS];
        struct tamisi_variant variant;
        bool met;
        read_point(tile, point, values);
        set_variant(&variant, combination);
        TAMIS_TRY(name_variant(&variant, combination, tile, values));
        TAMIS_TRY(check_met(&met, space, combination, &variant, tile));
        if (!met) TAMIS_TRY(make_variant(space, &variant, combination, tile, values));
    }
    return TAMIS_OK;
}

static tamis_status make_combination(struct space *space, struct combination *combination)
{
    const struct spec *spec = combination->spec;
    combination->first_variant = space->variant_count;
    combination->first_rejection = space->rejection_count;
    for (size_t i = 0; i < spec->tile_count; i++) {
        struct spec_tile mapped;
        const struct spec_tile *tile = &spec->tiles[i];
        if (!tile_matches(tile, combination)) continue;
        if (combination->family->tiles) TAMIS_TRY(add_map(&mapped, tile));
        TAMIS_TRY(make_tile(space, combination, combination->family->tiles ? &mapped : tile));
    }
    if (space->variant_count > combination->first_variant) return TAMIS_OK;
    if (combination->family->optional && space->rejection_count == combination->first_rejection) return TAMIS_OK;

    char what[96];
    snprintf(what, sizeof what, "%s for %s%s%s, head_dim %d", combination->family->family, combination->arch->arch,
             combination->dtype == TAMISI_ANY ? "" : ", ",
             combination->dtype == TAMISI_ANY ? "" : spec_dtype_name((tamis_dtype)combination->dtype),
             (int)spec->problem.head_dim);
    if (space->rejection_count == combination->first_rejection)
        return tamisi_fail(TAMIS_EINVAL, "%s: %s: no tile entry matches", spec->name, what);
    const struct space_rejection *last = &space->rejections[space->rejection_count - 1];
    return tamisi_fail(TAMIS_EINVAL, "%s: %s: all %zu variants are rejected, the last, %s: %s", spec->name, what,
                       space->rejection_count - combination->first_rejection, last->name, last->reason);
}

static tamis_status make_arch(struct space *space, const struct spec *spec, const struct space_options *options,
                              const struct family_needs *family, const char *arch)
{
    struct combination combination = {.spec = spec, .options = options, .family = family, .arch = find_arch(arch)};
    if (!combination.arch) return tamisi_fail(TAMIS_EINVAL, "%s: unknown architecture \"%s\"", spec->name, arch);
    combination.head_dim = family->head_dim ? (int)spec->problem.head_dim : 0;
    combination.dtype = TAMISI_ANY;
    if (!family->dtype) return make_combination(space, &combination);
    for (int i = 0; i < spec->dtype_count; i++) {
        combination.dtype = (int)spec->dtypes[i];
        TAMIS_TRY(make_combination(space, &combination));
    }
    return TAMIS_OK;
}

static tamis_status make_family(struct space *space, const struct spec *spec, const struct space_options *options,
                                const char *name)
{
    const struct family_needs *family = find_family(name);
    if (!family) return tamisi_fail(TAMIS_EINVAL, "%s: unknown family \"%s\"", spec->name, name);
    for (int i = 0; !options->archs && i < spec->arch_count; i++)
        TAMIS_TRY(make_arch(space, spec, options, family, spec->archs[i]));
    for (const char *const *arch = options->archs; arch && *arch; arch++)
        TAMIS_TRY(make_arch(space, spec, options, family, *arch));
    return TAMIS_OK;
}

static tamis_status make_all(struct space *space, const struct spec *spec, const struct space_options *options)
{
    for (const char *const *name = spec_families; *name; name++) TAMIS_TRY(make_family(space, spec, options, *name));
    return spec->output_map ? make_family(space, spec, options, TAMISI_MAP_FAMILY) : TAMIS_OK;
}

tamis_status space_make(struct space *out, const struct spec *spec, const struct space_options *options)
{
    *out = (struct space){NULL, 0, NULL, 0};
    const tamis_status status = make_all(out, spec, options);
    if (status != TAMIS_OK) space_free(out);
    return status;
}

void space_free(struct space *space)
{
    for (size_t i = 0; i < space->variant_count; i++) {
        free(space->variants[i].text);
        free(space->variants[i].lined);
    }
    free(space->variants);
    free(space->rejections);
    *space = (struct space){NULL, 0, NULL, 0};
}
