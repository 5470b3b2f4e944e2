/*
 * cmd_bench_ablate.c: `tamis bench ablate`: ways to choose tokens, and what becomes of those that are dropped, side by side at
 * the same budgets on structured inputs.
 */
#define _GNU_SOURCE
#include "bench_ablate.h"
#include "bench_frame.h"
#include "cmd.h"
#include "spec.h"
#include "structured_options.h"

#include <stdio.h>

#define MAX_LAYERS 256
#define MAX_FITS 64

static const char *const heads[] = {"D",    "L",     "HEADS",  "DTYPE", "RATIO",       "CHOICE", "KEPT", "WINDOW",
                                    "ROWS", "LAST",  "ERROR",  "MAPPED", "ZEROS", "MAPPED ZEROS", "MS",  "DENSE",
                                    "MAP"};
#define COLUMNS ((int)(sizeof heads / sizeof *heads))
#define RIGHT (~(1u << 3 | 1u << 5)) /* all but the dtype and the choice */

struct job {
    struct bench_frame frame;
    struct ablate_case base; /* its problem, ratios and store are the figure's */
};

/* ---- what is printed */

static void add_row(struct job *job, const tamis_problem *p, const struct ablate_figures *figures, int ratio,
                    enum ablate_way way)
{
    struct cli_table *cells = &job->frame.table;
    const struct ablate_figure *figure = &figures->ratios[ratio];
    const struct ablate_row *row = &figure->ways[way];
    cli_table_add(cells, "%d", p->head_dim);
    cli_table_add(cells, "%lld", (long long)p->seq_len);
    cli_table_add(cells, "%d/%d", p->q_heads, p->kv_heads);
    cli_table_add(cells, "%s", spec_dtype_name(p->dtype));
    cli_table_add(cells, "%g", job->frame.options.ratios[ratio]);
    cli_table_add(cells, "%s", ablate_names[way]);
    cli_table_add(cells, "%lld", row->kept);
    cli_table_add(cells, "%.2f %%", 100 * row->window_mass);
    cli_table_add(cells, "%.2f %%", 100 * row->mass);
    cli_table_add(cells, "%.2e", row->window_error);
    cli_table_add(cells, "%.2e", row->error);
    cli_table_add(cells, "%.2e", row->error_mapped);
    cli_table_add(cells, "%.2e", row->zeros);
    cli_table_add(cells, "%.2e", row->zeros_mapped);
    if (way < ABLATE_SCOPES) {
        cli_table_add(cells, "%.3f", row->time.ms);
        cli_table_add(cells, "%.3f", figure->dense.ms / row->time.ms);
    } else {
        cli_table_add(cells, "-");
        cli_table_add(cells, "-");
    }
    if (row->mapped_time.ms > 0)
        cli_table_add(cells, "%.3f", row->mapped_time.ms / row->time.ms);
    else
        cli_table_add(cells, "-");
}

static void add_problem(struct json *json, const struct job *job, const tamis_problem *p)
{
    const struct structured *structure = &job->base.structure;
    json_string(json, "device", job->frame.device.name);
    json_string(json, "gpu", job->frame.stores.gpu);
    json_int(json, "head_dim", p->head_dim);
    json_int(json, "seq_len", p->seq_len);
    json_int(json, "q_heads", p->q_heads);
    json_int(json, "kv_heads", p->kv_heads);
    json_string(json, "dtype", spec_dtype_name(p->dtype));
    json_int(json, "window", p->selection.window);
    json_int(json, "pool", p->selection.pool);
    json_int(json, "min_tokens", p->selection.min_tokens);
    json_real(json, "sink", structure->sink);
    json_real(json, "local", structure->local);
    json_real(json, "hitter", structure->hitter);
    json_int(json, "spacing", structure->spacing);
    json_real(json, "own", structure->own);
    json_int(json, "layers", job->base.layers);
    json_int(json, "fits", job->base.fits);
}

static void add_json(struct job *job, const tamis_problem *p, const struct ablate_figures *figures, int ratio,
                     enum ablate_way way)
{
    const struct ablate_figure *figure = &figures->ratios[ratio];
    const struct ablate_row *row = &figure->ways[way];
    struct json json;
    cli_json_begin(job->frame.cli, &json, "bench_ablate");
    json_string(&json, "choice", ablate_names[way]);
    json_real(&json, "ratio", job->frame.options.ratios[ratio]);
    add_problem(&json, job, p);
    json_int(&json, "kept", row->kept);
    json_real(&json, "window_mass", row->window_mass);
    json_real(&json, "mass", row->mass);
    json_real(&json, "window_error", row->window_error);
    json_real(&json, "error", row->error);
    json_real(&json, "error_mapped", row->error_mapped);
    json_real(&json, "zeros", row->zeros);
    json_real(&json, "zeros_mapped", row->zeros_mapped);
    if (way < ABLATE_SCOPES) {
        json_real(&json, "ms", row->time.ms);
        json_real(&json, "least_ms", row->time.least_ms);
        json_real(&json, "most_ms", row->time.most_ms);
        json_int(&json, "rounds", job->frame.options.rounds);
        json_int(&json, "sm_mhz", figure->sm_mhz);
        json_real(&json, "dense_ratio", figure->dense.ms / row->time.ms);
    }
    json_bool(&json, "fused", figures->fused);
    if (row->mapped_time.ms > 0) {
        json_real(&json, "mapped_ms", row->mapped_time.ms);
        json_real(&json, "map_ratio", row->mapped_time.ms / row->time.ms);
    }
    json_real(&json, "dense_error", figures->dense_error);
    cli_json_end(job->frame.cli, &json);
}

/* ---- the figures */

static void measure(void *payload, tamis_dtype dtype, int head_dim, long long seq_len)
{
    struct job *job = payload;
    struct bench_frame *frame = &job->frame;
    struct ablate_case ablate = job->base;
    struct ablate_figures figures;
    char what[160];
    ablate.store = bench_stores_find(&frame->stores, head_dim, dtype);
    ablate.problem = bench_frame_problem(frame, dtype, head_dim, seq_len);
    ablate.problem.selection = frame->options.selection;
    ablate.ratio_count = frame->options.ratio_count;
    for (int i = 0; i < ablate.ratio_count; i++) ablate.ratios[i] = frame->options.ratios[i];
    const tamis_problem *p = &ablate.problem;
    snprintf(what, sizeof what, "head_dim %d, seq_len %lld, heads %d/%d, %s", p->head_dim, seq_len, p->q_heads, p->kv_heads,
             spec_dtype_name(p->dtype));
    if (!bench_frame_next(frame, what)) return;
    const tamis_status status =
        bench_ablate_measure(&frame->bench, &figures, &ablate, (unsigned long long)frame->options.seed);
    if (status != TAMIS_OK) {
        bench_frame_failed(frame, status, what);
        return;
    }
    if (!figures.right) {
        bench_frame_note(frame, cli_error(frame->cli, CLI_NUMERICS, "%s: %s; not timed", what, figures.wrong));
        return;
    }
    for (int i = 0; i < ablate.ratio_count * ABLATE_WAYS; i++)
        (frame->cli->json ? add_json : add_row)(job, p, &figures, i / ABLATE_WAYS, (enum ablate_way)(i % ABLATE_WAYS));
}

/* ---- what is asked for */

static int read_options(struct job *job)
{
    struct cli *cli = job->frame.cli;
    long long layers = job->base.layers, fits = job->base.fits;
    int code = bench_operator_options_read(&job->frame.options, cli);
    if (code == CLI_OK) code = structured_options_read(cli, &job->base.structure);
    if (code == CLI_OK && (!cli_real(cli, "own", 0, 1, &job->base.structure.own) ||
                           !cli_integer(cli, "layers", 1, MAX_LAYERS, &layers) ||
                           !cli_integer(cli, "fits", 1, MAX_FITS, &fits)))
        code = CLI_USAGE;
    job->base.layers = (int)layers;
    job->base.fits = (int)fits;
    return code;
}

static int bench_all(struct job *job)
{
    struct bench_frame *frame = &job->frame;
    const struct bench_options *o = &frame->options;
    char title[160];
    snprintf(title, sizeof title, "means of %d layers, %g of their heavy hitters their own; window %d, pool %d, "
             "min_tokens %lld", job->base.layers, job->base.structure.own, o->selection.window, o->selection.pool,
             (long long)o->selection.min_tokens);
    bench_frame_title(frame, title);
    cli_table_init(&frame->table, heads, COLUMNS, RIGHT);
    frame->total = (long long)o->dtypes.count * o->head_dims.count * o->lengths.count;
    return bench_frame_run(frame, measure, job);
}

static int run(struct cli *cli)
{
    struct job job = {.frame = {.cli = cli}, .base = {.structure = STRUCTURED_INIT, .layers = 4, .fits = 1}};
    job.base.structure.own = 0.5;
    int code = read_options(&job);
    if (code == CLI_OK) code = bench_frame_open(&job.frame);
    if (code == CLI_OK) code = bench_all(&job);
    bench_frame_close(&job.frame);
    return code;
}

static const struct cli_option options[] = {
    {"lengths", 0, "LIST", "sequence lengths, with commas between; default: 8192,32768,131072"},
    {"ratios", 0, "LIST", "of the tokens that are kept; default: 0.75,0.5,0.25"},
    {"layers", 0, "N", "inputs in turn; the first one's tokens are those of evict; default: 4"},
    {"fits", 0, "N", "further inputs of each layer, for linear maps to be fitted to; default: 1"},
    {"own", 0, "X", "part of the heavy hitters that are a layer's own; default: 0.5"},
    {"window", 0, "N", "last queries that score, and are kept; default: 128"},
    {"pool", 0, "N", "width of the moving average over scores; default: 7"},
    {"min-tokens", 0, "N", "never keep fewer before the window; default: 1024"},
    STRUCTURED_OPTIONS,
    BENCH_OPTIONS,
    {"seed", 0, "N", "of the inputs, and of random choices; default: 1"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "a spec or template is invalid"},
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is missing and could not be compiled"},
    {CLI_NUMERICS, "dense attention, a mapped row or a list is wrong, or a result is NaN; nothing was timed"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; what was timed is printed"},
    {0, NULL}};

const struct cli_command cmd_bench_ablate = {
    .name = "bench ablate",
    .operands = "STORE|SPEC... [option...]",
    .operand_max = -1,
    .summary = "set ways to choose tokens, and to fill in dropped ones, side by side",
    .description =
        "For each ratio keep as many tokens in six ways, on the same inputs, and set the outputs beside dense attention's. "
        "head, kv_group and layer are the operator's scopes: each query head, each KV head's group, or all heads together "
        "choose by the pooled scores of the window's queries. random: each head keeps other random tokens in each layer; "
        "recent: the last ones; evict: what the first layer chooses by scope layer is kept in all of them, and the rest is "
        "gone for good. These three run by the steps, with ranks of their own in place of the score's. Inputs have the "
        "structure of a model's attention, by the options below, on random numbers. All figures are over --layers of them, "
        "in each of which a part --own of the heavy hitters is another.\n\n"
        "WINDOW is the attention mass of the window's queries on tokens that their head keeps, by the score step over all "
        "heads; ROWS the same of 32 rows, kept or not, from all of the sequence, of three heads, by dense attention in double "
        "precision. LAST is the relative error against that attention of 16 rows of the window, which all ways keep; ERROR "
        "that of these and of the 32 as far as they are kept, other rows in each way; ZEROS that of the 32, zero where a row "
        "is dropped, as the operator leaves it. MAPPED and MAPPED ZEROS are ERROR and ZEROS where each head's kept rows pass "
        "a linear map: the D x D matrix that by least squares brings them nearest to dense ones, drawn to a multiple of the "
        "identity, the less so the more --fits there are; these are other random inputs of the same layer. The attention "
        "kernel applies it, rounded to the dtype, where the store has one that does ('output_map: true' in its spec), which is "
        "then compared with the product in double precision; else the host does. MS is the operator in one call without a map, "
        "DENSE the dense run's time over it, and MAP the same call's time with a map over it; a baseline has no such call.",
    .options = options,
    .exits = exits,
    .examples = "tamis bench ablate llama.tamis --lengths 131072\n"
                "tamis bench ablate llama.tamis --ratios 0.5 --layers 16 --own 0.25 --json\n"
                "tamis bench ablate --device cpu --lengths 512 --min-tokens 16 --q-heads 8 --kv-heads 2\n",
    .run = run};
