/*
 * cmd_plan.c: `tamis plan`: what the library would do for one problem, in numbers: what follows from it, its workspace, its
 * launches and the least they must move and compute. From the variants of a store or spec alone: nothing is compiled, loaded
 * or run. The numbers are explain.c's.
 */
#define _GNU_SOURCE
#include "arch_list.h"
#include "cmd.h"
#include "compile.h"
#include "data.h"
#include "device.h"
#include "error.h"
#include "explain.h"
#include "explain_choice.h"
#include "gpu.h"
#include "pattern_options.h"
#include "selection_options.h"
#include "space.h"
#include "spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct job {
    struct cli *cli;
    struct device device; /* context NULL: none was named */
    tamis_store *store;   /* of a store, */
    char spec_name[64];
    struct spec spec; /* or of a spec */
    bool has_spec;
    struct space space;
    char arch[16]; /* whose kernels; "": the CPU, which has none */

    tamis_problem problem;
    tamis_pattern pattern; /* of the spec, or the option's */
    struct tamisi_facts facts;
    struct tamisi_workspace workspace;
    struct explain_kernels kernels;
    struct explain_choice choice;
    struct explain_part parts[EXPLAIN_PARTS];
    struct explain_launch launches[EXPLAIN_LAUNCHES];
    int launch_count;
    struct explain_floor floors[EXPLAIN_FLOORS];
    int floor_count;
    struct explain_kept kept;
    double assumed;             /* ratio */
    double bandwidth, rate;     /* GB/s and TFLOP/s; 0: not given */
};

/* ---- what is asked for */

static int open_operand(struct job *job)
{
    const char *operand = job->cli->operands[0];
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, job->cli};
    if (data_is_store(operand)) {
        struct tamisi_spec_row row;
        tamis_status status = tamis_store_open(&job->store, operand, &options);
        if (status == TAMIS_OK) status = tamisi_store_get_spec(&row, job->store, cli_value(job->cli, "spec"));
        if (status != TAMIS_OK) return cli_fail(job->cli, status);
        job->problem = row.problem;
        snprintf(job->spec_name, sizeof job->spec_name, "%s", row.name);
        tamisi_spec_row_free(&row);
        status = tamis_store_pattern(&job->pattern, job->store, job->spec_name);
        return status == TAMIS_OK ? CLI_OK : cli_fail(job->cli, status);
    }
    struct data data;
    char path[PATH_MAX + 80];
    if (cli_given(job->cli, "spec")) return cli_usage(job->cli, "--spec chooses from a store, and %s is none", operand);
    tamis_status status = data_find(&data);
    if (status == TAMIS_OK) status = data_spec_path(path, &data, operand);
    if (status != TAMIS_OK) return cli_fail(job->cli, status);
    status = spec_read(&job->spec, path, data.specs_dir);
    if (status != TAMIS_OK) return cli_fail_as(job->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    job->has_spec = true;
    job->problem = job->spec.problem;
    job->pattern = job->spec.pattern;
    snprintf(job->spec_name, sizeof job->spec_name, "%s", job->spec.name);
    return CLI_OK;
}

static int read_problem(struct job *job)
{
    struct cli *cli = job->cli;
    long long seq_len = 131072, batch = 1;
    const char *blocks; /* a file, of which no more is of interest here than that there is one */
    job->assumed = 0.5;
    if (!cli_integer(cli, "seq-len", 1, SELECTION_MAX_TOKENS, &seq_len) || !cli_integer(cli, "batch", 1, 65535, &batch) ||
        !cli_real(cli, "assume-kept", 0, 1, &job->assumed) || !cli_real(cli, "bandwidth", 1, 1e9, &job->bandwidth) ||
        !cli_real(cli, "rate", 0.001, 1e9, &job->rate))
        return CLI_USAGE;
    if (cli_given(cli, "bandwidth") != cli_given(cli, "rate"))
        return cli_usage(cli, "--bandwidth and --rate go together: the slower of the two decides");
    job->problem.seq_len = seq_len;
    job->problem.batch = (int32_t)batch;
    int code = selection_options_read(cli, &job->problem.selection);
    if (code == CLI_OK) code = pattern_options_read(cli, &job->pattern, &blocks);
    if (code != CLI_OK) return code;
    tamis_status status = tamisi_problem_check(&job->problem);
    if (status == TAMIS_OK) status = tamisi_pattern_check(&job->pattern, &job->problem);
    if (status != TAMIS_OK) return cli_fail(cli, status);
    tamisi_facts_make(&job->facts, &job->problem);
    status = tamisi_workspace_make(&job->workspace, &job->problem, &job->facts);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

/* ---- whose kernels */

/* The one architecture that there are kernels for; several must be chosen from. */
static int only_arch(struct job *job)
{
    const struct tamisi_variant_query query = {.spec = job->spec_name, .dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants = NULL;
    size_t count = 0;
    const char *found[2] = {NULL, NULL}; /* different ones */
    if (job->has_spec) {
        found[0] = job->spec.archs[0];
        found[1] = job->spec.arch_count > 1 ? job->spec.archs[1] : NULL;
    } else {
        const tamis_status status = tamisi_store_find_variants(&variants, &count, job->store, &query);
        if (status != TAMIS_OK) return cli_fail(job->cli, status);
        for (size_t i = 0; i < count && !found[1]; i++)
            if (!found[0] || strcmp(found[0], variants[i].arch) != 0) found[found[0] != NULL] = variants[i].arch;
    }
    int code = CLI_OK;
    if (!found[0])
        code = cli_error(job->cli, CLI_FAILED, "%s has no kernels of %s", job->cli->operands[0], job->spec_name);
    else if (found[1])
        code = cli_usage(job->cli, "choose with --arch: %s has kernels for several, as %s and %s", job->cli->operands[0],
                         found[0], found[1]);
    else
        snprintf(job->arch, sizeof job->arch, "%s", found[0]);
    free(variants);
    return code;
}

/* The device, where one is named, else --arch, else what there is. */
static int choose_arch(struct job *job)
{
    const char *device = cli_value(job->cli, "device"), *arch = cli_value(job->cli, "arch");
    if (device && strcmp(device, "none") != 0) {
        if (arch) return cli_usage(job->cli, "--arch is for --device none: %s has its own", device);
        const int code = device_open_bare(&job->device, job->cli);
        if (code != CLI_OK || job->device.ordinal == TAMIS_DEVICE_CPU) return code;
        const struct tamisi_gpu *gpu = job->device.context->state;
        snprintf(job->arch, sizeof job->arch, "%s", gpu->arch);
        job->kernels.sm_count = gpu->sm_count;
        return CLI_OK;
    }
    if (!arch) return only_arch(job);
    const int code = arch_list_read_one(job->cli, &arch);
    if (code != CLI_OK) return code;
    snprintf(job->arch, sizeof job->arch, "%s", arch);
    return CLI_OK;
}

/* ---- its kernels */

static bool is_for(const struct tamisi_variant *variant, const char *family, const tamis_problem *problem)
{
    return strcmp(variant->family, family) == 0 && variant->abi == tamisi_family_abi(family) &&
           (variant->dtype == TAMISI_ANY || variant->dtype == (int)problem->dtype) &&
           (variant->head_dim == 0 || variant->head_dim == problem->head_dim);
}

/* Launches are told of plans without a pattern alone: its families' kernels are none of them. */
static tamis_status add_kernels(struct job *job, const char *family, const struct tamisi_variant *variant,
                                const struct tamisi_resource *resources, int resource_count)
{
    if (strcmp(family, "blocks") == 0 || tamisi_family_has_lists(family)) return TAMIS_OK;
    return explain_add(&job->kernels, variant, resources, resource_count);
}

/* The variant that a plan would take, with what its cubin tells, if the store has one. */
static tamis_status add_stored(struct job *job, const char *family)
{
    struct tamisi_gpu_identity gpu;
    struct tamisi_ranking ranking;
    struct tamisi_cubin cubin = {.data = NULL};
    char options[TAMISI_OPTIONS_SIZE];
    explain_identify(&gpu, job->device.context, job->arch);
    TAMIS_TRY(tamisi_gpu_rank(&ranking, job->store, family, job->arch, &job->problem, &job->facts, &job->pattern,
                              TAMIS_TUNING_USE, &gpu));
    tamisi_compile_options(options, job->arch);
    if (tamisi_store_get_cubin(&cubin, job->store, &ranking.variants[0].source, job->arch, options, NULL) != TAMIS_OK)
        cubin.resource_count = 0;
    const tamis_status status = add_kernels(job, family, &ranking.variants[0], cubin.resources, cubin.resource_count);
    explain_choice_add(&job->choice, family, &ranking.variants[0], &ranking.choice);
    tamisi_cubin_free(&cubin);
    tamisi_ranking_free(&ranking);
    return status;
}

static tamis_status add_generated(struct job *job, const char *family)
{
    const struct tamisi_choice untimed = {.reason = TAMISI_BY_DEFAULT, .gain = 1, .regret = -1};
    for (size_t i = 0; i < job->space.variant_count; i++) {
        const struct tamisi_variant *variant = &job->space.variants[i].variant;
        if (!is_for(variant, family, &job->problem)) continue;
        explain_choice_add(&job->choice, family, variant, &untimed);
        return add_kernels(job, family, variant, NULL, 0);
    }
    return tamisi_fail(TAMIS_EUNSUPPORTED, "%s makes no %s kernel for %s", job->spec_name, family, job->arch);
}

static int make_space(struct job *job)
{
    const char *const archs[] = {job->arch, NULL};
    struct data data;
    tamis_status status = data_find(&data);
    const struct space_options options = {data.templates_dir, data.abi_dir, archs, true};
    if (status == TAMIS_OK) status = space_make(&job->space, &job->spec, &options);
    if (status == TAMIS_OK) return CLI_OK;
    return cli_fail_as(job->cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
}

static bool is_taken(const struct job *job, int family)
{
    return family < TAMISI_FAMILY_COUNT || tamisi_gpu_pattern_needs(job->pattern.kind, tamisi_gpu_families[family]);
}

static int find_kernels(struct job *job)
{
    if (!job->arch[0]) return CLI_OK;
    const int code = job->has_spec ? make_space(job) : CLI_OK;
    tamis_status status = TAMIS_OK;
    if (code != CLI_OK) return code;
    for (int i = 0; i < TAMISI_ALL_FAMILIES && status == TAMIS_OK; i++) {
        const char *family = tamisi_gpu_families[i];
        if (!is_taken(job, i)) continue;
        status = job->has_spec ? add_generated(job, family) : add_stored(job, family);
    }
    if (status == TAMIS_OK)
        status = explain_launches(job->launches, &job->launch_count, &job->kernels, &job->problem, &job->facts);
    return status == TAMIS_OK ? CLI_OK : cli_fail(job->cli, status);
}

/* ---- in text */

static void print_policy(struct job *job)
{
    const tamis_selection *s = &job->problem.selection;
    char wanted[48] = "";
    if (s->policy == TAMIS_COVERAGE) snprintf(wanted, sizeof wanted, " %g", s->coverage);
    if (s->policy == TAMIS_RATIO) snprintf(wanted, sizeof wanted, " %g", s->ratio);
    if (s->policy == TAMIS_COUNT) snprintf(wanted, sizeof wanted, " %lld", (long long)s->count);
    cli_print(job->cli, "selection: %s%s, scope %s, window %d, pool %d, min_tokens %lld\n", spec_policy_name(s->policy), wanted,
              spec_scope_name(s->scope), s->window, s->pool, (long long)s->min_tokens);
}

static void print_pattern(struct job *job)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    if (job->pattern.kind == TAMIS_PATTERN_NONE) return;
    tamisi_pattern_describe(&text, &job->pattern);
    if (!text.failed)
        cli_print(job->cli,
                  "pattern: %s: workspace, launches and floors are without it, as of a plan whose options name none\n",
                  text.data);
    tamisi_buf_free(&text);
}

static void print_facts(struct job *job)
{
    const tamis_problem *p = &job->problem;
    const struct tamisi_facts *f = &job->facts;
    cli_print(job->cli, "%s: %s, batch %d, heads %d/%d, head_dim %d, seq_len %lld, %s%s\n", job->spec_name,
              spec_dtype_name(p->dtype), p->batch, p->q_heads, p->kv_heads, p->head_dim, (long long)p->seq_len,
              job->arch[0] ? "kernels for " : "the CPU, which runs no kernels", job->arch);
    print_policy(job);
    print_pattern(job);
    cli_print(job->cli, "candidates, N: %lld\n", f->candidates);
    if (f->dense)
        cli_print(job->cli, "kept: all %lld, whatever the data: a dense plan\n", job->kept.tokens);
    else if (job->kept.assumed)
        cli_print(job->cli, "kept: by coverage, known on the device only; %lld are assumed here (--assume-kept %g)\n",
                  job->kept.tokens, job->assumed);
    else
        cli_print(job->cli, "kept: %lld of %lld, the window included\n", job->kept.tokens, (long long)p->seq_len);
    cli_print(job->cli, "capacity, C: %lld; lists, Hi: %d; compact heads, Hc: %d\n", f->capacity, f->index_heads,
              f->compact_heads);
    cli_print(job->cli, "workspace: %zu bytes\n", job->workspace.bytes);
}

static void print_parts(struct job *job)
{
    static const char *const heads[] = {"WORKSPACE", "BYTES", "SHAPE"};
    struct cli_table table;
    cli_table_init(&table, heads, 3, 1u << 1);
    for (int i = 0; i < EXPLAIN_PARTS; i++) {
        cli_table_add(&table, "%s", job->parts[i].name);
        cli_table_add(&table, "%lld", job->parts[i].bytes);
        cli_table_add(&table, "%s", job->parts[i].shape);
    }
    cli_print(job->cli, "\n");
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void print_launches(struct job *job)
{
    static const char *const heads[] = {"STAGE", "GRID", "THREADS", "REGISTERS", "SHARED", "KERNEL"};
    struct cli_table table;
    cli_table_init(&table, heads, 6, 7u << 2);
    for (int i = 0; i < job->launch_count; i++) {
        const struct explain_launch *launch = &job->launches[i];
        const struct explain_kernel *kernel = launch->kernel;
        cli_table_add(&table, "%s%s%s", kernel->entry.stage, launch->what[0] ? " " : "", launch->what);
        if (launch->up_to)
            cli_table_add(&table, "an SM each, at most %lld", launch->grid[0]);
        else
            cli_table_add(&table, "%lld x %lld x %lld", launch->grid[0], launch->grid[1], launch->grid[2]);
        cli_table_add(&table, "%d", kernel->entry.threads);
        if (kernel->compiled)
            cli_table_add(&table, "%d", kernel->resource.registers);
        else
            cli_table_add(&table, "-");
        cli_table_add(&table, "%d", kernel->entry.shared_bytes + kernel->resource.shared_bytes);
        cli_table_add(&table, "%s", kernel->entry.symbol);
    }
    cli_print(job->cli, "\n");
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void print_floors(struct job *job)
{
    static const char *const heads[] = {"AT LEAST", "READ MB", "WRITTEN MB", "GFLOP", "MS"};
    const bool timed = job->bandwidth > 0;
    struct cli_table table;
    double total = 0;
    cli_table_init(&table, heads, timed ? 5 : 4, 0x1eu);
    for (int i = 0; i < job->floor_count; i++) {
        const struct explain_floor *floor = &job->floors[i];
        const double ms = timed ? explain_least_ms(floor, 1e9 * job->bandwidth, 1e12 * job->rate) : 0;
        cli_table_add(&table, "%s", floor->stage);
        cli_table_add(&table, "%.3f", floor->read_bytes / 1e6);
        cli_table_add(&table, "%.3f", floor->written_bytes / 1e6);
        cli_table_add(&table, "%.3f", floor->flops / 1e9);
        if (timed) cli_table_add(&table, "%.4f", ms);
        total += ms;
    }
    cli_print(job->cli, "\n");
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
    if (timed) cli_print(job->cli, "at %g GB/s and %g TFLOP/s: at least %.4f ms\n", job->bandwidth, job->rate, total);
}

/* ---- in JSON */

static void add_json_launches(struct job *job, struct json *json)
{
    json_array(json, "launches");
    for (int i = 0; i < job->launch_count; i++) {
        const struct explain_launch *launch = &job->launches[i];
        const struct explain_kernel *kernel = launch->kernel;
        json_object(json, NULL);
        json_string(json, "stage", kernel->entry.stage);
        json_string(json, "what", launch->what);
        json_string(json, "symbol", kernel->entry.symbol);
        json_array(json, "grid");
        for (int d = 0; d < 3; d++) json_int(json, NULL, launch->grid[d]);
        json_array_end(json);
        json_bool(json, "grid_is_bound", launch->up_to);
        json_int(json, "threads", kernel->entry.threads);
        json_int(json, "dynamic_shared_bytes", kernel->entry.shared_bytes);
        json_bool(json, "compiled", kernel->compiled);
        if (kernel->compiled) {
            json_int(json, "registers", kernel->resource.registers);
            json_int(json, "static_shared_bytes", kernel->resource.shared_bytes);
        }
        json_object_end(json);
    }
    json_array_end(json);
}

static void add_json_floors(struct job *job, struct json *json)
{
    json_array(json, "floors");
    for (int i = 0; i < job->floor_count; i++) {
        const struct explain_floor *floor = &job->floors[i];
        json_object(json, NULL);
        json_string(json, "stage", floor->stage);
        json_real(json, "read_bytes", floor->read_bytes);
        json_real(json, "written_bytes", floor->written_bytes);
        json_real(json, "flops", floor->flops);
        if (job->bandwidth > 0)
            json_real(json, "least_ms", explain_least_ms(floor, 1e9 * job->bandwidth, 1e12 * job->rate));
        json_object_end(json);
    }
    json_array_end(json);
}

static void print_json(struct job *job, bool all)
{
    const tamis_problem *p = &job->problem;
    const struct tamisi_facts *f = &job->facts;
    struct json json;
    cli_json_begin(job->cli, &json, "plan");
    json_string(&json, "spec", job->spec_name);
    json_string(&json, "arch", job->arch[0] ? job->arch : NULL);
    json_string(&json, "dtype", spec_dtype_name(p->dtype));
    json_int(&json, "batch", p->batch);
    json_int(&json, "q_heads", p->q_heads);
    json_int(&json, "kv_heads", p->kv_heads);
    json_int(&json, "head_dim", p->head_dim);
    json_int(&json, "seq_len", p->seq_len);
    json_string(&json, "policy", spec_policy_name(p->selection.policy));
    json_string(&json, "scope", spec_scope_name(p->selection.scope));
    json_string(&json, "pattern", tamisi_pattern_name(job->pattern.kind));
    json_int(&json, "candidates", f->candidates);
    json_int(&json, "capacity", f->capacity);
    json_int(&json, "index_heads", f->index_heads);
    json_int(&json, "compact_heads", f->compact_heads);
    json_bool(&json, "dense", f->dense);
    json_int(&json, "kept", job->kept.tokens);
    json_bool(&json, "kept_is_assumed", job->kept.assumed);
    json_int(&json, "workspace_bytes", (long long)job->workspace.bytes);
    if (all) {
        json_object(&json, "workspace");
        for (int i = 0; i < EXPLAIN_PARTS; i++) json_int(&json, job->parts[i].name, job->parts[i].bytes);
        json_object_end(&json);
        if (job->choice.count > 0) explain_choice_json(&job->choice, &json);
        add_json_launches(job, &json);
        add_json_floors(job, &json);
    }
    cli_json_end(job->cli, &json);
}

static int run(struct cli *cli)
{
    struct job job = {.cli = cli, .pattern = TAMIS_PATTERN_INIT};
    const bool all = cli_given(cli, "explain");
    int code = open_operand(&job);
    if (code == CLI_OK) code = read_problem(&job);
    if (code == CLI_OK) code = choose_arch(&job);
    if (code == CLI_OK) code = find_kernels(&job);
    if (code == CLI_OK) {
        job.kept = explain_kept(&job.problem, &job.facts, job.assumed);
        job.floor_count = explain_floors(job.floors, &job.problem, &job.facts, job.kept.tokens);
        explain_parts(job.parts, &job.workspace);
        if (cli->json) print_json(&job, all);
        if (!cli->json) print_facts(&job);
        if (!cli->json && all) {
            print_parts(&job);
            if (job.choice.count > 0) explain_choice_print(&job.choice, cli);
            if (job.launch_count > 0) print_launches(&job);
            print_floors(&job);
        }
    }
    space_free(&job.space);
    if (job.has_spec) spec_free(&job.spec);
    tamis_store_free(job.store);
    device_close(&job.device);
    return code;
}

static const struct cli_option options[] = {
    {"seq-len", 0, "L", "tokens of a sequence; default: 131072"},
    {"batch", 0, "N", "sequences; default: 1"},
    SELECTION_OPTIONS,
    PATTERN_OPTION,
    {"spec", 0, "NAME", "this spec of a store of several"},
    {"arch", 0, "ARCH", "kernels for this architecture; default: the only one there is"},
    {"device", 0, "none|DEVICE", "none, cpu or cuda:N, whose architecture then counts; default: none"},
    {"explain", 0, NULL, "the workspace in parts, why each variant, each launch, and the least that each stage must move and "
                         "compute"},
    {"assume-kept", 0, "X", "part of the candidates that is kept where only the device will know; default: 0.5"},
    {"bandwidth", 0, "X", "GB/s of memory: with --rate, the least time of each stage"},
    {"rate", 0, "X", "TFLOP/s of the tensor cores"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "the spec or a template is invalid"},
    {CLI_NO_DEVICE, "--device: no NVIDIA driver, no such GPU, or one that is too old"},
    {0, NULL}};

const struct cli_command cmd_plan = {
    .name = "plan",
    .operands = "STORE|SPEC [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "say what the library would do for a problem, and what it must cost",
    .description =
        "Print what follows from a problem: how many tokens may be chosen and are kept, how much workspace it takes. "
        "With --explain also the workspace in parts, which variant of each kernel is taken and by what, the "
        "launches of tamis_run in order, and floors: what each stage "
        "must read, write and compute by the operator's definition, each input read once a pass and each result "
        "written once. Model, selection and block pattern are the spec's unless options say otherwise; of a pattern it is "
        "told which variants its kernels are, and the rest as without one. Needs no GPU: nothing is "
        "compiled or run. Registers are told where the store has the compiled kernel.",
    .options = options,
    .exits = exits,
    .examples = "tamis plan llama.tamis --seq-len 131072 --ratio 0.5\n"
                "tamis plan llama-3.1-8b --arch sm_90a --explain --bandwidth 4300 --rate 790\n"
                "tamis plan llama.tamis --device cuda:0 --explain --assume-kept 0.6 --json\n",
    .run = run};
