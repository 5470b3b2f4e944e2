/*
 * cmd_gen.c: `tamis gen`: specs to sources, variants and cubins in a store. All is read and expanded before the store is
 * touched, and a spec with its sources enters it in one transaction.
 */
#define _GNU_SOURCE
#include "arch_list.h"
#include "build.h"
#include "cmd.h"
#include "data.h"
#include "driver.h"
#include "error.h"
#include "kernel_table.h"
#include "spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct generation {
    struct cli *cli;
    struct data data;
    struct arch_list archs; /* of none: each spec's */
    struct spec *specs;
    struct space *spaces;
    int spec_count; /* read and expanded so far */
    tamis_store *store;
    struct build build;
    int spilled;    /* default kernels that spill, */
    int serialized; /* variants whose wgmma is serialised */
};

/* ---- arguments */

static int read_arguments(struct generation *gen)
{
    long long threads = sysconf(_SC_NPROCESSORS_ONLN);
    if (!cli_integer(gen->cli, "jobs", 1, 1024, &threads)) return CLI_USAGE;
    if (!cli_value(gen->cli, "output")) return cli_usage(gen->cli, "-o STORE is missing");
    gen->build.threads = (int)threads;
    return arch_list_read(gen->cli, &gen->archs);
}

/* ---- specs to variants */

/* --default: each of the names given becomes the first of its combination, in whichever spec has it. */
static int promote(struct generation *gen)
{
    const char *at = cli_value(gen->cli, "default");
    while (at && *at) {
        char name[TAMISI_SYMBOL_SIZE];
        const size_t bytes = strcspn(at, ",");
        int found = 0;
        snprintf(name, sizeof name, "%.*s", (int)bytes, at);
        for (int i = 0; i < gen->spec_count; i++) found += space_promote(&gen->spaces[i], name);
        if (found == 0)
            return cli_usage(gen->cli, "--default: no variant is named %s: tamis show SPEC lists them", name);
        at += bytes;
        at += *at == ',';
    }
    for (int i = 0; i < gen->spec_count && cli_given(gen->cli, "defaults-only"); i++) space_keep_defaults(&gen->spaces[i]);
    return CLI_OK;
}

static int expand_spec(struct generation *gen, const char *operand)
{
    char path[PATH_MAX + 80];
    struct spec *spec = &gen->specs[gen->spec_count];
    struct space *space = &gen->spaces[gen->spec_count];
    const struct space_options options = {.templates_dir = gen->data.templates_dir,
                                          .abi_dir = gen->data.abi_dir,
                                          .archs = gen->archs.names[0] ? gen->archs.names : NULL,
                                          .defaults_only = cli_given(gen->cli, "defaults-only") &&
                                                           !cli_given(gen->cli, "default")};
    tamis_status status = data_spec_path(path, &gen->data, operand);
    if (status != TAMIS_OK) return cli_fail(gen->cli, status);
    status = spec_read(spec, path, gen->data.specs_dir);
    if (status != TAMIS_OK) return cli_fail_as(gen->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    for (int i = 0; i < gen->spec_count; i++) {
        if (strcmp(gen->specs[i].name, spec->name) != 0) continue;
        const int code = cli_error(gen->cli, CLI_SPEC, "%s: a spec named %s was given before", path, spec->name);
        spec_free(spec);
        return code;
    }
    status = space_make(space, spec, &options);
    if (status != TAMIS_OK) {
        const int code = cli_fail_as(gen->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
        spec_free(spec);
        return code;
    }
    gen->spec_count++;
    return CLI_OK;
}

static int expand_all(struct generation *gen)
{
    const int count = gen->cli->operand_count;
    gen->specs = calloc((size_t)count, sizeof *gen->specs);
    gen->spaces = calloc((size_t)count, sizeof *gen->spaces);
    if (!gen->specs || !gen->spaces) return cli_error(gen->cli, CLI_FAILED, "out of memory for %d specs", count);
    const tamis_status status = data_find(&gen->data);
    if (status != TAMIS_OK) return cli_fail(gen->cli, status);
    for (int i = 0; i < count; i++) {
        const int code = expand_spec(gen, gen->cli->operands[i]);
        if (code != CLI_OK) return code;
        if (cli_interrupted()) return cli_error(gen->cli, CLI_INTERRUPTED, "interrupted: nothing was written");
    }
    const int code = promote(gen);
    if (code != CLI_OK) return code;
    for (int i = 0; i < count; i++)
        if (build_add(&gen->build, &gen->spaces[i]) != TAMIS_OK) return cli_fail_as(gen->cli, CLI_FAILED);
    return CLI_OK;
}

/* ---- variants to the store */

static tamis_status put_all(const struct generation *gen)
{
    TAMIS_TRY(tamisi_store_begin(gen->store));
    for (int i = 0; i < gen->spec_count; i++) {
        const tamis_status status =
            space_put(gen->store, &gen->specs[i], &gen->spaces[i], gen->archs.names[0] ? gen->archs.names : NULL);
        if (status == TAMIS_OK) continue;
        tamisi_store_rollback(gen->store);
        return status;
    }
    return tamisi_store_commit(gen->store);
}

static int fill_store(struct generation *gen)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_CREATE, cli_log, gen->cli};
    tamis_status status = tamis_store_open(&gen->store, cli_value(gen->cli, "output"), &options);
    if (status == TAMIS_OK) status = put_all(gen);
    gen->build.store = gen->store;
    return status == TAMIS_OK ? CLI_OK : cli_fail(gen->cli, status);
}

/* ---- compiling */

static void on_progress(void *payload, size_t done, size_t total, const char *name)
{
    cli_progress(payload, (long long)done, (long long)total, name);
}

static int report_failures(const struct generation *gen)
{
    int code = CLI_OK;
    for (size_t i = 0; i < gen->build.count; i++) {
        const struct build_job *job = &gen->build.jobs[i];
        const struct tamisi_variant *variant = &job->variant->variant;
        if (job->state != BUILD_FAILED || job->same_as != i) continue;
        const int own = job->status == TAMIS_ECOMPILE ? CLI_COMPILE : CLI_FAILED;
        cli_error_detail(gen->cli, own, job->detail, "%s for %s: %s", variant->name, variant->arch,
                         job->error ? job->error : "out of memory");
        if (code != CLI_FAILED) code = own; /* what is wrong with the machine outweighs a kernel */
    }
    return code;
}

static int compile_all(struct generation *gen)
{
    struct build *build = &gen->build;
    const struct tamisi_nvrtc *nvrtc;
    if (cli_given(gen->cli, "no-compile")) {
        build_look_up(build, NULL);
        cli_note(gen->cli, "not compiled, as asked: %zu variants", build->waiting);
        return CLI_OK;
    }
    if (tamisi_nvrtc_get(&nvrtc) != TAMIS_OK) {
        build_look_up(build, NULL);
        cli_warn(gen->cli, "%s", tamis_last_error());
        cli_warn(gen->cli, "of %zu variants the store holds the source alone: a GPU plan that needs one compiles it",
                 build->waiting);
        return CLI_OK;
    }
    build_look_up(build, nvrtc->identity);
    if (build->waiting == 0) {
        cli_note(gen->cli, "nothing to compile: the store has all %zu variants", build->count);
        return CLI_OK;
    }
    cli_note(gen->cli, "compiling %zu of %zu variants with NVRTC %d.%d on %d threads", build->waiting, build->count,
             nvrtc->major, nvrtc->minor, build_threads(build));
    build->stop = cli_interrupted;
    build->progress = on_progress;
    build->payload = gen->cli;
    if (build_run(build) != TAMIS_OK) return cli_fail_as(gen->cli, CLI_COMPILE);
    cli_progress_end(gen->cli);
    return report_failures(gen);
}

/* ---- what came of it */

static void warn_of(struct generation *gen, const struct build_job *job)
{
    const struct tamisi_variant *variant = &job->variant->variant;
    for (int i = 0; i < job->resource_count; i++) {
        const struct tamisi_resource *resource = &job->resources[i];
        const int spilled = resource->spill_stores + resource->spill_loads;
        if (variant->rank > 0 || spilled == 0) continue;
        gen->spilled++;
        cli_warn(gen->cli, "%s for %s spills %d bytes a thread", resource->symbol, variant->arch, spilled);
    }
    gen->serialized += kernel_warn_serialized(gen->cli, variant, job->resources, job->resource_count);
}

static void print_kernels(struct generation *gen)
{
    struct kernel_table table;
    kernel_table_open(&table, gen->cli, false);
    for (size_t i = 0; i < gen->build.count; i++) {
        const struct build_job *job = &gen->build.jobs[i];
        kernel_table_add(&table, &job->variant->variant, job->resources, job->resource_count, job->variant->reason);
    }
    kernel_table_close(&table);
    for (size_t i = 0; i < gen->build.count; i++) warn_of(gen, &gen->build.jobs[i]);
}

static void print_rejections(const struct generation *gen)
{
    for (int i = 0; i < gen->spec_count; i++)
        if (gen->spaces[i].rejection_count > 0)
            cli_note(gen->cli, "%s: %zu combinations cannot be built: tamis show %s --all tells why", gen->specs[i].name,
                     gen->spaces[i].rejection_count, gen->cli->operands[i]);
}

static void print_summary(struct generation *gen, double seconds)
{
    const struct build *build = &gen->build;
    const char *store = tamisi_store_path(gen->store);
    struct json json;
    print_rejections(gen);
    cli_note(gen->cli, "%s: %zu variants of %d spec%s, %zu compiled, %zu failed, %.1f s", store, build->count, gen->spec_count,
             gen->spec_count == 1 ? "" : "s", build->done, build->failed, seconds);
    if (!gen->cli->json) return;
    cli_json_begin(gen->cli, &json, "gen");
    json_string(&json, "store", store);
    json_int(&json, "specs", gen->spec_count);
    json_int(&json, "variants", (long long)build->count);
    json_int(&json, "compiled", (long long)build->done);
    json_int(&json, "failed", (long long)build->failed);
    json_int(&json, "left", (long long)(build->waiting - build->done - build->failed));
    json_int(&json, "default_kernels_spilling", gen->spilled);
    json_int(&json, "serialized_wgmma", gen->serialized);
    json_real(&json, "seconds", seconds);
    cli_json_end(gen->cli, &json);
}

static int finish(struct generation *gen, int code, double started)
{
    print_kernels(gen);
    print_summary(gen, cli_seconds() - started);
    const size_t left = gen->build.waiting - gen->build.done - gen->build.failed;
    if (cli_interrupted() && left > 0)
        return cli_error(gen->cli, CLI_INTERRUPTED, "interrupted: what was compiled is saved, %zu variants are left; the "
                                                    "same command goes on from there", left);
    if (code == CLI_OK && cli_given(gen->cli, "strict") && left > 0)
        return cli_error(gen->cli, CLI_COMPILE, "--strict: %zu variants are not compiled, and nobody knows what they take",
                         left);
    if (code == CLI_OK && cli_given(gen->cli, "strict") && gen->spilled + gen->serialized > 0)
        return cli_error(gen->cli, CLI_COMPILE, "--strict: %d default kernels spill, %d variants have serialised wgmma",
                         gen->spilled, gen->serialized);
    return code;
}

static void generation_free(struct generation *gen)
{
    build_free(&gen->build);
    for (int i = 0; i < gen->spec_count; i++) {
        space_free(&gen->spaces[i]);
        spec_free(&gen->specs[i]);
    }
    free(gen->spaces);
    free(gen->specs);
    tamis_store_free(gen->store);
}

static int run(struct cli *cli)
{
    struct generation gen = {.cli = cli};
    const double started = cli_seconds();
    cli_catch_interrupt();
    int code = read_arguments(&gen);
    if (code == CLI_OK) code = expand_all(&gen);
    if (code == CLI_OK) code = fill_store(&gen);
    if (code == CLI_OK) code = finish(&gen, compile_all(&gen), started);
    generation_free(&gen);
    return code;
}

static const struct cli_option options[] = {
    {"output", 'o', "STORE", "the store to make or add to"},
    {"arch", 0, "ARCH,...", "architectures, of sm_80, sm_86, sm_89, sm_90a, sm_100, sm_120, with commas between; default: the "
                        "spec's"},
    {"default", 0, "VARIANT,...", "variants, separated by commas, that become the first of their kind"},
    {"defaults-only", 0, NULL, "only the first variant of each kernel: what runs without tuning"},
    {"jobs", 'j', "N", "compile on so many threads; default: one a core"},
    {"no-compile", 0, NULL, "put sources only"},
    {"strict", 0, NULL,
     "fail where a default kernel spills registers, a variant's wgmma is serialised, or one is not compiled"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "a spec or template is invalid"},
    {CLI_COMPILE, "a variant did not compile, or --strict found fault with one"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; what was compiled is in the store"},
    {0, NULL}};

const struct cli_command cmd_gen = {
    .name = "gen",
    .operands = "SPEC... -o STORE [option...]",
    .operand_min = 1,
    .operand_max = -1,
    .summary = "generate and compile the kernels of specs into a store",
    .description =
        "Expand the templates for each SPEC, a YAML file or the name of one in specs/, put the sources into "
        "STORE, and compile with NVRTC what STORE has not got yet. No GPU is needed. A spec's variants in STORE "
        "are replaced for the architectures at hand; compiled kernels stay until 'tamis cache gc'. Prints each "
        "kernel's registers, shared memory, stack and spills in bytes. Where NVRTC is missing, STORE gets the "
        "sources alone.",
    .options = options,
    .exits = exits,
    .examples = "tamis gen llama-3.1-8b -o llama.tamis\n"
                "tamis gen my.yaml -o my.tamis --arch sm_80,sm_90a --defaults-only --strict\n"
                "tamis gen my.yaml -o try.tamis --default compress_d128_bm128_t256 --defaults-only\n"
                "tamis gen my.yaml -o my.tamis --json | jq 'select(.type == \"kernel\")'\n",
    .run = run};
