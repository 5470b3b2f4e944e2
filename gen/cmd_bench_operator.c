/*
 * cmd_bench_operator.c: `tamis bench operator`: tamis_run and the five steps timed over lengths and ratios, checked first,
 * and set beside the dense run of the same length.
 */
#define _GNU_SOURCE
#include "bench_frame.h"
#include "bench_operator.h"
#include "cmd.h"
#include "spec.h"

#include <stdio.h>

static const char *const heads[] = {"D",    "L",    "B",      "HEADS",    "DTYPE",  "KEEP",       "KEPT",   "MS",
                                    "REST", "SCORE", "SELECT", "COMPRESS", "ATTEND", "DECOMPRESS", "DENSE", "VARIANT"};
#define COLUMNS ((int)(sizeof heads / sizeof *heads))
#define RIGHT (0xfu | 0x7fc0u) /* all but the dtype, what is kept by, and the variant */

/* What decides how many tokens are kept: "dense", "ratio 0.5", "coverage 0.005". */
static void describe_policy(char *out, size_t room, const tamis_selection *selection)
{
    if (selection->policy == TAMIS_DENSE)
        snprintf(out, room, "dense");
    else
        snprintf(out, room, "%s %g", spec_policy_name(selection->policy),
                 selection->policy == TAMIS_RATIO ? selection->ratio : selection->coverage);
}

static void describe(char *out, size_t room, const tamis_problem *p)
{
    char policy[48];
    describe_policy(policy, sizeof policy, &p->selection);
    snprintf(out, room, "head_dim %d, seq_len %lld, batch %d, heads %d/%d, %s, %s", p->head_dim, (long long)p->seq_len,
             p->batch, p->q_heads, p->kv_heads, spec_dtype_name(p->dtype), policy);
}

/* ---- what is printed */

static void add_row(struct bench_frame *frame, const tamis_problem *p, const struct bench_operator_figure *figure,
                    double dense_ms)
{
    struct cli_table *cells = &frame->table;
    char policy[48];
    describe_policy(policy, sizeof policy, &p->selection);
    cli_table_add(cells, "%d", p->head_dim);
    cli_table_add(cells, "%lld", (long long)p->seq_len);
    cli_table_add(cells, "%d", p->batch);
    cli_table_add(cells, "%d/%d", p->q_heads, p->kv_heads);
    cli_table_add(cells, "%s", spec_dtype_name(p->dtype));
    cli_table_add(cells, "%s", policy);
    if (figure->kept_least == figure->run.rows)
        cli_table_add(cells, "%lld", figure->run.rows);
    else
        cli_table_add(cells, "%lld..%lld", figure->kept_least, figure->run.rows);
    cli_table_add(cells, "%.3f", figure->run.ms);
    for (int i = -1; i < RUNNER_STEPS; i++)
        if (figure->steps)
            cli_table_add(cells, "%.3f", i < 0 ? figure->rest_ms : figure->step[i].ms);
        else
            cli_table_add(cells, "-");
    if (dense_ms > 0 && figure->steps)
        cli_table_add(cells, "%.3f", dense_ms / figure->run.ms);
    else
        cli_table_add(cells, "-");
    cli_table_add(cells, "%s", figure->run.variant);
}

static void add_problem(struct json *json, const tamis_problem *p)
{
    const tamis_selection *s = &p->selection;
    json_int(json, "batch", p->batch);
    json_int(json, "head_dim", p->head_dim);
    json_int(json, "seq_len", p->seq_len);
    json_int(json, "q_heads", p->q_heads);
    json_int(json, "kv_heads", p->kv_heads);
    json_string(json, "dtype", spec_dtype_name(p->dtype));
    json_string(json, "policy", spec_policy_name(s->policy));
    if (s->policy == TAMIS_RATIO) json_real(json, "ratio", s->ratio);
    if (s->policy == TAMIS_COVERAGE) json_real(json, "coverage", s->coverage);
    if (s->policy == TAMIS_DENSE) return;
    json_string(json, "scope", spec_scope_name(s->scope));
    json_int(json, "window", s->window);
    json_int(json, "pool", s->pool);
    json_int(json, "min_tokens", s->min_tokens);
}

static void add_json(struct bench_frame *frame, const tamis_problem *p, const struct bench_operator_figure *figure,
                     double dense_ms)
{
    struct json json;
    cli_json_begin(frame->cli, &json, "bench_operator");
    json_string(&json, "what", p->selection.policy == TAMIS_DENSE ? "dense" : "sparse");
    json_string(&json, "device", frame->device.name);
    json_string(&json, "gpu", frame->stores.gpu);
    add_problem(&json, p);
    json_int(&json, "kept_least", figure->kept_least);
    json_int(&json, "kept_most", figure->run.rows);
    json_int(&json, "workspace_bytes", (long long)figure->workspace_bytes);
    json_real(&json, "ms", figure->run.ms);
    json_real(&json, "least_ms", figure->run.least_ms);
    json_real(&json, "most_ms", figure->run.most_ms);
    json_int(&json, "rounds", frame->options.rounds);
    if (figure->steps) {
        json_object(&json, "step_ms");
        for (int i = 0; i < RUNNER_STEPS; i++) json_real(&json, runner_step_names[i], figure->step[i].ms);
        json_object_end(&json);
        json_real(&json, "rest_ms", figure->rest_ms);
        if (dense_ms > 0) json_real(&json, "dense_ratio", dense_ms / figure->run.ms);
    }
    json_int(&json, "sm_mhz", figure->run.sm_mhz);
    json_real(&json, "error", figure->run.error);
    json_real(&json, "error_limit", figure->run.error_limit);
    json_string(&json, "variant", figure->run.variant);
    cli_json_end(frame->cli, &json);
}

/* ---- the figures */

/* The time of its run; 0: there is no figure, and it was said why; or the bench is to end. */
static double measure(struct bench_frame *frame, const struct bench_case *bench_case, double dense_ms)
{
    char what[200];
    struct bench_operator_figure figure;
    describe(what, sizeof what, &bench_case->problem);
    if (!bench_frame_next(frame, what)) return 0;
    const tamis_status status = bench_operator_measure(&frame->bench, &figure, bench_case);
    if (status != TAMIS_OK) {
        bench_frame_failed(frame, status, what);
        return 0;
    }
    if (!figure.run.right) {
        bench_frame_note(frame, cli_error(frame->cli, CLI_NUMERICS, "%s: %s; not timed (%s)", what, figure.wrong,
                                          figure.run.variant));
        return 0;
    }
    if (frame->cli->json)
        add_json(frame, &bench_case->problem, &figure, dense_ms);
    else
        add_row(frame, &bench_case->problem, &figure, dense_ms);
    return figure.run.ms;
}

static void run_length(void *payload, tamis_dtype dtype, int head_dim, long long seq_len)
{
    struct bench_frame *frame = payload;
    struct bench_case bench_case = {.problem = bench_frame_problem(frame, dtype, head_dim, seq_len),
                                    .store = bench_stores_find(&frame->stores, head_dim, dtype)};
    tamis_problem *p = &bench_case.problem;
    p->batch = frame->options.batch;
    const double dense_ms = measure(frame, &bench_case, 0);
    p->selection = frame->options.selection;
    if (p->selection.policy == TAMIS_COVERAGE) measure(frame, &bench_case, dense_ms);
    for (int i = 0; i < frame->options.ratio_count; i++) {
        p->selection.ratio = frame->options.ratios[i];
        measure(frame, &bench_case, dense_ms);
    }
}

static int bench_all(struct bench_frame *frame)
{
    const struct bench_options *o = &frame->options;
    const tamis_selection *s = &o->selection;
    char title[120];
    snprintf(title, sizeof title, "scope %s, window %d, pool %d, min_tokens %lld", spec_scope_name(s->scope), s->window,
             s->pool, (long long)s->min_tokens);
    bench_frame_title(frame, title);
    cli_table_init(&frame->table, heads, COLUMNS, RIGHT);
    frame->total = (long long)o->dtypes.count * o->head_dims.count * o->lengths.count *
                   (1 + (o->ratio_count > 0 ? o->ratio_count : 1));
    return bench_frame_run(frame, run_length, frame);
}

static int run(struct cli *cli)
{
    struct bench_frame frame = {.cli = cli};
    int code = bench_operator_options_read(&frame.options, cli);
    if (code == CLI_OK) code = bench_frame_open(&frame);
    if (code == CLI_OK) code = bench_all(&frame);
    bench_frame_close(&frame);
    return code;
}

static const struct cli_option options[] = {
    {"lengths", 0, "LIST", "sequence lengths, with commas between; default: 8192,32768,131072"},
    {"ratios", 0, "LIST", "of the tokens that are kept; default: 0.75,0.5,0.25"},
    {"coverage", 0, "X", "keep by coverage instead, as many as the inputs ask for"},
    {"scope", 0, "head|kv_group|layer", "which heads choose together; default: head"},
    {"window", 0, "N", "last queries that score, and are kept; default: 128"},
    {"pool", 0, "N", "width of the moving average over scores; default: 7"},
    {"min-tokens", 0, "N", "never keep fewer before the window; default: 1024"},
    {"batch", 0, "N", "sequences; default: 1"},
    BENCH_OPTIONS,
    {"seed", 0, "N", "of the random inputs; default: 1"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "a spec or template is invalid"},
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is missing and could not be compiled"},
    {CLI_NUMERICS, "a result is wrong; it was not timed"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; what was timed is printed"},
    {0, NULL}};

const struct cli_command cmd_bench_operator = {
    .name = "bench operator",
    .operands = "STORE|SPEC... [option...]",
    .operand_max = -1,
    .summary = "time the whole operator, and its steps",
    .description =
        "Time the operator with the kernels of each STORE, or those generated anew for a SPEC, on random inputs: for "
        "each length a dense run, then a run a ratio. Before that outputs are poisoned, and after a run kept counts, "
        "positions, zero rows and sampled rows of three heads are checked, then once more after the five steps. Then "
        "come two runs to warm up and the rounds, each between two events; the median counts. MS is the operator in "
        "one call. SCORE to DECOMPRESS are the steps called one by one, compress for K and V alone; REST is "
        "score, select and compress in one go, as in the operator: all that is not attention, where that kernel writes "
        "the zero rows. DENSE is the dense run's time over MS: above 1, sparse is faster.",
    .options = options,
    .exits = exits,
    .examples = "tamis bench operator llama.tamis --lengths 8192,131072\n"
                "tamis bench operator llama.tamis --coverage 0.005 --scope kv_group --batch 4 --json\n"
                "tamis bench operator --device cpu --lengths 512 --min-tokens 16\n",
    .run = run};
