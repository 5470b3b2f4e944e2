/*
 * cmd_show.c: `tamis show`: the variants of a spec or a store with what they use, or the source of one. From a spec the
 * sources are expanded anew; from a store they are what it holds, to the byte.
 */
#define _GNU_SOURCE
#include "arch_list.h"
#include "build.h"
#include "cmd.h"
#include "data.h"
#include "error.h"
#include "kernel_table.h"
#include "nearest.h"
#include "spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_NAMES 512 /* that a message chooses from */

/* A variant with all that is known of it, from either kind of place. */
struct shown {
    const struct tamisi_variant *variant;
    const char *reason; /* "" from a store */
    const char *text;   /* NULL from a store: read on demand */
    struct tamisi_resource resources[TAMISI_MAX_ENTRIES];
    int resource_count;
};

struct show {
    struct cli *cli;
    const char *variant, *arch, *spec_name; /* what is asked for; NULL: all */
    struct spec spec;
    bool has_spec;
    struct space space;
    struct build build;
    tamis_store *store;
    struct tamisi_variant *stored; /* of the store */
    size_t stored_count;
    struct shown *shown; /* those that are asked for */
    size_t count;
};

static bool wanted(const char *asked, const char *value) { return !asked || strcmp(asked, value) == 0; }

static bool is_asked_for(const struct show *show, const struct tamisi_variant *variant)
{
    return wanted(show->variant, variant->name) && wanted(show->arch, variant->arch) && wanted(show->spec_name, variant->spec);
}

static tamis_status add_shown(struct show *show, const struct shown *one)
{
    if (!is_asked_for(show, one->variant)) return TAMIS_OK;
    struct shown *grown = realloc(show->shown, (show->count + 1) * sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for the variants");
    show->shown = grown;
    grown[show->count++] = *one;
    return TAMIS_OK;
}

/* ---- from a store */

static int load_store(struct show *show, const char *path)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, show->cli};
    const struct tamisi_variant_query query = {.dtype = -1, .head_dim = -1};
    tamis_status status = tamis_store_open(&show->store, path, &options);
    if (status == TAMIS_OK) status = tamisi_store_find_variants(&show->stored, &show->stored_count, show->store, &query);
    for (size_t i = 0; i < show->stored_count && status == TAMIS_OK; i++) {
        const struct tamisi_variant *variant = &show->stored[i];
        struct shown one = {.variant = variant, .reason = ""};
        struct tamisi_cubin cubin;
        char text[TAMISI_OPTIONS_SIZE];
        if (!is_asked_for(show, variant)) continue;
        tamisi_compile_options(text, variant->arch);
        if (tamisi_store_get_cubin(&cubin, show->store, &variant->source, variant->arch, text, NULL) == TAMIS_OK) {
            memcpy(one.resources, cubin.resources, sizeof one.resources);
            one.resource_count = cubin.resource_count;
            tamisi_cubin_free(&cubin);
        }
        status = add_shown(show, &one);
    }
    return status == TAMIS_OK ? CLI_OK : cli_fail(show->cli, status);
}

/* ---- from a spec */

static int make_space(struct show *show, const char *operand)
{
    struct data data;
    char path[PATH_MAX + 80];
    const char *archs[] = {show->arch, NULL};
    tamis_status status = data_find(&data);
    if (status == TAMIS_OK) status = data_spec_path(path, &data, operand);
    if (status != TAMIS_OK) return cli_fail(show->cli, status);
    status = spec_read(&show->spec, path, data.specs_dir);
    show->has_spec = status == TAMIS_OK;
    const struct space_options options = {
        .templates_dir = data.templates_dir, .abi_dir = data.abi_dir, .archs = show->arch ? archs : NULL};
    if (status == TAMIS_OK) status = space_make(&show->space, &show->spec, &options);
    if (status != TAMIS_OK) return cli_fail_as(show->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    return CLI_OK;
}

static void on_progress(void *payload, size_t done, size_t total, const char *name)
{
    cli_progress(payload, (long long)done, (long long)total, name);
}

/* --compile: what the variants use, without keeping them. Those that are not asked for are taken out first. */
static int compile(struct show *show)
{
    struct build *build = &show->build;
    for (size_t i = 0; i < build->count; i++) {
        const struct tamisi_variant *variant = &build->jobs[i].variant->variant;
        if (wanted(show->variant, variant->name)) continue;
        build->jobs[i].state = BUILD_STORED;
    }
    build_look_up(build, NULL);
    build->threads = (int)sysconf(_SC_NPROCESSORS_ONLN);
    build->stop = cli_interrupted;
    build->progress = on_progress;
    build->payload = show->cli;
    cli_catch_interrupt();
    if (build_run(build) != TAMIS_OK) return cli_fail_as(show->cli, CLI_COMPILE);
    cli_progress_end(show->cli);
    for (size_t i = 0; i < build->count; i++) {
        const struct build_job *job = &build->jobs[i];
        if (!job->error) continue;
        return cli_error_detail(show->cli, CLI_COMPILE, job->detail, "%s", job->error);
    }
    return cli_interrupted() ? cli_error(show->cli, CLI_INTERRUPTED, "interrupted") : CLI_OK;
}

static int load_spec(struct show *show, const char *operand)
{
    int code = make_space(show, operand);
    if (code != CLI_OK) return code;
    tamis_status status = build_add(&show->build, &show->space);
    if (status == TAMIS_OK && cli_given(show->cli, "compile")) code = compile(show);
    for (size_t i = 0; i < show->build.count && status == TAMIS_OK; i++) {
        const struct build_job *job = &show->build.jobs[i];
        struct shown one = {.variant = &job->variant->variant, .reason = job->variant->reason, .text = job->variant->text};
        memcpy(one.resources, job->resources, sizeof one.resources);
        one.resource_count = job->resource_count;
        status = add_shown(show, &one);
    }
    return status == TAMIS_OK ? code : cli_fail(show->cli, status);
}

/* ---- printing */

/* The i-th of all variants, asked for or not. */
static const struct tamisi_variant *any_variant(const struct show *show, size_t i)
{
    return show->store ? &show->stored[i] : &show->space.variants[i].variant;
}

enum part { NAME, ARCH, SPEC };

static bool is_among(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* What the variants are called, for what they are, or of which spec: each once, and as many as a message chooses from. */
static int list_parts(const char *out[MAX_NAMES], const struct show *show, enum part part)
{
    const size_t all = show->store ? show->stored_count : show->space.variant_count;
    int count = 0;
    for (size_t i = 0; i < all && count < MAX_NAMES; i++) {
        const struct tamisi_variant *variant = any_variant(show, i);
        const char *text = part == NAME ? variant->name : part == ARCH ? variant->arch : variant->spec;
        if (!is_among(out, count, text)) out[count++] = text;
    }
    return count;
}

/* No variant is left: says which of the things asked for there is none of, and what there is. */
static int none_found(struct show *show)
{
    const char *names[MAX_NAMES];
    char advice[4096];
    for (size_t i = 0; i < show->space.rejection_count && show->variant; i++)
        if (strcmp(show->space.rejections[i].name, show->variant) == 0)
            return cli_error(show->cli, CLI_FAILED, "%s cannot be built for %s: %s", show->variant,
                             show->space.rejections[i].arch, show->space.rejections[i].reason);
    int count = list_parts(names, show, SPEC);
    if (count == 0) return cli_error(show->cli, CLI_FAILED, "%s has no variants: tamis gen puts them", show->cli->operands[0]);
    nearest_describe(advice, sizeof advice, show->spec_name ? show->spec_name : "", names, count);
    if (show->spec_name && !is_among(names, count, show->spec_name))
        return cli_error(show->cli, CLI_FAILED, "no variants of spec %s: %s", show->spec_name, advice);
    count = list_parts(names, show, ARCH);
    nearest_describe(advice, sizeof advice, "", names, count);
    if (show->arch && !is_among(names, count, show->arch))
        return cli_error(show->cli, CLI_FAILED, "no variant for %s: %s", show->arch, advice);
    count = list_parts(names, show, NAME);
    nearest_describe(advice, sizeof advice, show->variant ? show->variant : "", names, count);
    return cli_error(show->cli, CLI_FAILED, "no variant %s%s%s: %s", show->variant ? show->variant : "of these",
                     show->arch ? " for " : "", show->arch ? show->arch : "", advice);
}

static int print_list(struct show *show)
{
    struct kernel_table table;
    struct json json;
    kernel_table_open(&table, show->cli, show->has_spec);
    for (size_t i = 0; i < show->count; i++)
        kernel_table_add(&table, show->shown[i].variant, show->shown[i].resources, show->shown[i].resource_count,
                         show->shown[i].reason);
    kernel_table_close(&table);
    for (size_t i = 0; i < show->count; i++)
        kernel_warn_serialized(show->cli, show->shown[i].variant, show->shown[i].resources, show->shown[i].resource_count);
    for (size_t i = 0; i < show->space.rejection_count && cli_given(show->cli, "all"); i++) {
        const struct space_rejection *rejection = &show->space.rejections[i];
        if (!wanted(show->variant, rejection->name)) continue;
        if (!show->cli->json) {
            cli_print(show->cli, "rejected %s for %s: %s\n", rejection->name, rejection->arch, rejection->reason);
            continue;
        }
        cli_json_begin(show->cli, &json, "rejection");
        json_string(&json, "variant", rejection->name);
        json_string(&json, "arch", rejection->arch);
        json_string(&json, "reason", rejection->reason);
        cli_json_end(show->cli, &json);
    }
    return CLI_OK;
}

static int print_text(struct show *show, const struct tamisi_variant *variant, const char *text, size_t bytes)
{
    struct json json;
    char hex[TAMISI_HASH_HEX_SIZE];
    if (!show->cli->json) {
        fwrite(text, 1, bytes, stdout);
        return CLI_OK;
    }
    tamisi_hash_hex(&variant->source, hex);
    cli_json_begin(show->cli, &json, "source");
    json_string(&json, "spec", variant->spec);
    json_string(&json, "variant", variant->name);
    json_string(&json, "arch", variant->arch);
    json_string(&json, "hash", hex);
    json_string(&json, "text", text);
    cli_json_end(show->cli, &json);
    return CLI_OK;
}

static int print_source(struct show *show)
{
    const struct shown *one = &show->shown[0];
    for (size_t i = 1; i < show->count; i++) {
        const struct tamisi_variant *other = show->shown[i].variant;
        if (tamisi_hash_equal(&one->variant->source, &other->source)) continue;
        if (strcmp(one->variant->arch, other->arch) != 0)
            return cli_usage(show->cli, "%s differs between architectures, choose with --arch: %s, %s, ...", show->variant,
                             one->variant->arch, other->arch);
        return cli_usage(show->cli, "%s differs between specs, choose with --spec: %s, %s, ...", show->variant,
                         one->variant->spec, other->spec);
    }
    if (one->text) return print_text(show, one->variant, one->text, strlen(one->text));
    struct tamisi_buf text = TAMISI_BUF_INIT;
    const tamis_status status = tamisi_store_get_source(&text, show->store, &one->variant->source);
    const int code = status == TAMIS_OK ? print_text(show, one->variant, text.data, text.size) : cli_fail(show->cli, status);
    tamisi_buf_free(&text);
    return code;
}

static void show_free(struct show *show)
{
    free(show->shown);
    build_free(&show->build);
    space_free(&show->space);
    if (show->has_spec) spec_free(&show->spec);
    free(show->stored);
    tamis_store_free(show->store);
}

static int run(struct cli *cli)
{
    struct show show = {.cli = cli, .variant = cli_value(cli, "variant"), .spec_name = cli_value(cli, "spec")};
    const bool source = cli_given(cli, "source") || (show.variant && !cli_given(cli, "list"));
    if (source && !show.variant)
        return cli_usage(cli, "--source needs --variant NAME: 'tamis show %s' lists them", cli->operands[0]);
    const bool store = data_is_store(cli->operands[0]);
    if (store && (cli_given(cli, "compile") || cli_given(cli, "all")))
        return cli_usage(cli, "--%s is for a spec, and %s is a store", cli_given(cli, "all") ? "all" : "compile",
                         cli->operands[0]);
    int code = arch_list_read_one(cli, &show.arch);
    if (code == CLI_OK) code = store ? load_store(&show, cli->operands[0]) : load_spec(&show, cli->operands[0]);
    if (code == CLI_OK && show.count == 0)
        code = none_found(&show);
    else if (code == CLI_OK)
        code = source ? print_source(&show) : print_list(&show);
    show_free(&show);
    return code;
}

static const struct cli_option options[] = {
    {"variant", 0, "VARIANT", "only this variant, and print its source unless --list is given"},
    {"arch", 0, "ARCH", "only this architecture"},
    {"spec", 0, "NAME", "only this spec of a store"},
    {"source", 0, NULL, "print the source of --variant: exactly the text that is stored"},
    {"list", 0, NULL, "list variants, a kernel a line; the default without --variant"},
    {"all", 0, NULL, "list the combinations of a spec too that cannot be built, with the reason"},
    {"compile", 0, NULL, "compile the variants of a spec to tell registers and spills; keeps nothing"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {{CLI_SPEC, "the spec or a template is invalid"},
                                             {CLI_COMPILE, "--compile: NVRTC is missing or rejected a kernel"},
                                             {CLI_INTERRUPTED, "interrupted by Ctrl-C"},
                                             {0, NULL}};

const struct cli_command cmd_show = {
    .name = "show",
    .operands = "SPEC|STORE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "list variants with what they use, or print a generated source",
    .description =
        "List the variants of a SPEC (a YAML file, or the name of one in specs/) or of a STORE: rank 0 is the "
        "default, sizes are in bytes, registers, stack and spills a thread, known where the kernel is compiled. "
        "With --variant print its CUDA source.",
    .options = options,
    .exits = exits,
    .examples = "tamis show llama-3.1-8b --arch sm_90a\n"
                "tamis show llama.tamis --variant compress_d128_bm64_t256 --arch sm_80 > compress.cu\n"
                "tamis show my.yaml --all --compile --arch sm_80\n",
    .run = run};
