/*
 * cmd_bench_compose.c: `tamis bench compose`: token selection and a block pattern, alone and together, over lengths, timed in
 * turns on structured inputs and set beside dense attention, ours and others', with the error of each.
 */
#define _GNU_SOURCE
#include "bench_compose.h"
#include "bench_frame.h"
#include "cmd.h"
#include "pattern_options.h"
#include "plan.h"
#include "spec.h"
#include "structured_options.h"

#include <ctype.h>
#include <stdio.h>

#define DEFAULT_COVERAGE 0.02 /* of the published figure */

struct job {
    struct bench_frame frame;
    struct compose_case base; /* its problem and store are the figure's */
    struct bench_peers peers;
    const char *heads[CLI_TABLE_COLUMNS];
    char backends[BENCH_MAX_BACKENDS][16]; /* as heads */
};

/* ---- what is printed */

static void open_table(struct job *job)
{
    static const char *const first[] = {"D", "L", "HEADS", "DTYPE", "WHAT", "KEPT", "BLOCKS", "ERROR", "MS", "LISTS", "DENSE"};
    int columns = 0;
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) job->heads[columns++] = first[i];
    for (int i = 0; i < job->peers.backend_count; i++) {
        const char *name = job->peers.backends[i];
        size_t c = 0;
        for (; name[c]; c++) job->backends[i][c] = (char)toupper((unsigned char)name[c]);
        job->backends[i][c] = '\0';
        job->heads[columns++] = job->backends[i];
    }
    cli_table_init(&job->frame.table, job->heads, columns, ~(1u << 3 | 1u << 4)); /* all but dtype and what to the right */
}

/* The peer's time for dense attention of the figure's problem; 0: there is none. */
static double peer_ms(const struct job *job, int backend, const tamis_problem *p)
{
    const struct bench_key key = {p->head_dim, p->q_heads, p->kv_heads, p->seq_len, p->dtype, true};
    const struct bench_peer *peer = bench_peers_best(&job->peers, job->peers.backends[backend], &key);
    return peer ? peer->ms : 0;
}

static void add_row(struct job *job, const tamis_problem *p, const struct compose_figure *figure, enum compose_way way)
{
    struct cli_table *cells = &job->frame.table;
    cli_table_add(cells, "%d", p->head_dim);
    cli_table_add(cells, "%lld", (long long)p->seq_len);
    cli_table_add(cells, "%d/%d", p->q_heads, p->kv_heads);
    cli_table_add(cells, "%s", spec_dtype_name(p->dtype));
    cli_table_add(cells, "%s", compose_names[way]);
    cli_table_add(cells, "%lld", figure->kept[way]);
    if (way == COMPOSE_PATTERN)
        cli_table_add(cells, "%.1f %%", 100 * figure->density);
    else
        cli_table_add(cells, "-");
    cli_table_add(cells, "%.2e", figure->error[way]);
    cli_table_add(cells, "%.3f", figure->time[way].ms);
    if (way == COMPOSE_PATTERN)
        cli_table_add(cells, "%.3f", figure->lists.ms);
    else
        cli_table_add(cells, "-");
    cli_table_add(cells, "%.3f", figure->time[COMPOSE_DENSE].ms / figure->time[way].ms);
    for (int i = 0; i < job->peers.backend_count; i++) {
        const double ms = peer_ms(job, i, p);
        if (ms > 0)
            cli_table_add(cells, "%.3f", ms / figure->time[way].ms);
        else
            cli_table_add(cells, "-");
    }
}

static void add_json(struct job *job, const tamis_problem *p, const struct compose_figure *figure, enum compose_way way)
{
    const tamis_selection *s = &p->selection;
    const struct structured *structure = &job->base.structure;
    struct json json;
    cli_json_begin(job->frame.cli, &json, "bench_compose");
    json_string(&json, "what", compose_names[way]);
    json_string(&json, "device", job->frame.device.name);
    json_string(&json, "gpu", job->frame.stores.gpu);
    json_int(&json, "head_dim", p->head_dim);
    json_int(&json, "seq_len", p->seq_len);
    json_int(&json, "q_heads", p->q_heads);
    json_int(&json, "kv_heads", p->kv_heads);
    json_string(&json, "dtype", spec_dtype_name(p->dtype));
    json_string(&json, "policy", spec_policy_name(s->policy));
    json_real(&json, spec_policy_name(s->policy), s->policy == TAMIS_RATIO ? s->ratio : s->coverage);
    json_string(&json, "pattern", tamisi_pattern_name(job->base.pattern.kind));
    json_real(&json, "sink", structure->sink);
    json_real(&json, "local", structure->local);
    json_real(&json, "hitter", structure->hitter);
    json_int(&json, "spacing", structure->spacing);
    json_int(&json, "kept", figure->kept[way]);
    if (way == COMPOSE_PATTERN) {
        json_real(&json, "density", figure->density);
        json_real(&json, "lists_ms", figure->lists.ms);
    }
    json_real(&json, "error", figure->error[way]);
    json_real(&json, "ms", figure->time[way].ms);
    json_real(&json, "least_ms", figure->time[way].least_ms);
    json_real(&json, "most_ms", figure->time[way].most_ms);
    json_int(&json, "rounds", job->frame.options.rounds);
    json_int(&json, "sm_mhz", figure->sm_mhz);
    json_object(&json, "ratio");
    json_real(&json, "tamis", figure->time[COMPOSE_DENSE].ms / figure->time[way].ms);
    for (int i = 0; i < job->peers.backend_count; i++) {
        const double ms = peer_ms(job, i, p);
        if (ms > 0) json_real(&json, job->peers.backends[i], ms / figure->time[way].ms);
    }
    json_object_end(&json);
    cli_json_end(job->frame.cli, &json);
}

/* ---- the figures */

static void measure(struct job *job, const struct compose_case *compose)
{
    const tamis_problem *p = &compose->problem;
    char what[160];
    struct compose_figure figure;
    snprintf(what, sizeof what, "head_dim %d, seq_len %lld, heads %d/%d, %s, %s %g", p->head_dim, (long long)p->seq_len,
             p->q_heads, p->kv_heads, spec_dtype_name(p->dtype), spec_policy_name(p->selection.policy),
             p->selection.policy == TAMIS_RATIO ? p->selection.ratio : p->selection.coverage);
    if (!bench_frame_next(&job->frame, what)) return;
    const tamis_status status =
        bench_compose_measure(&job->frame.bench, &figure, compose, (unsigned long long)job->frame.options.seed);
    if (status != TAMIS_OK) {
        bench_frame_failed(&job->frame, status, what);
        return;
    }
    if (!figure.right) {
        bench_frame_note(&job->frame,
                         cli_error(job->frame.cli, CLI_NUMERICS,
                                   "%s: errors of %.3g dense (at most %g is right), %.3g pattern, %.3g tokens, %.3g both; not "
                                   "timed",
                                   what, figure.error[COMPOSE_DENSE], figure.error_limit, figure.error[COMPOSE_PATTERN],
                                   figure.error[COMPOSE_TOKENS], figure.error[COMPOSE_BOTH]));
        return;
    }
    for (int way = 0; way < COMPOSE_WAYS; way++) {
        if (job->frame.cli->json)
            add_json(job, p, &figure, (enum compose_way)way);
        else
            add_row(job, p, &figure, (enum compose_way)way);
    }
}

static void run_length(void *payload, tamis_dtype dtype, int head_dim, long long seq_len)
{
    struct job *job = payload;
    struct compose_case compose = job->base;
    tamis_problem *p = &compose.problem;
    compose.store = bench_stores_find(&job->frame.stores, head_dim, dtype);
    *p = bench_frame_problem(&job->frame, dtype, head_dim, seq_len);
    p->selection = job->frame.options.selection;
    if (p->selection.policy == TAMIS_COVERAGE) measure(job, &compose);
    for (int i = 0; i < job->frame.options.ratio_count; i++) {
        p->selection.ratio = job->frame.options.ratios[i];
        measure(job, &compose);
    }
}

/* ---- what is asked for */

static int read_options(struct job *job)
{
    struct cli *cli = job->frame.cli;
    const char *path;
    int code = bench_operator_options_read(&job->frame.options, cli);
    if (code == CLI_OK) code = structured_options_read(cli, &job->base.structure);
    if (code == CLI_OK) code = pattern_options_read(cli, &job->base.pattern, &job->base.blocks);
    if (code != CLI_OK) return code;
    if (!cli_given(cli, "pattern")) job->base.pattern.kind = TAMIS_PATTERN_FLEXPREFILL;
    if (job->base.pattern.kind == TAMIS_PATTERN_NONE)
        return cli_usage(cli, "--pattern none: there is nothing to compare; 'tamis bench operator' times tokens alone");
    if (!cli_given(cli, "coverage") && !cli_given(cli, "ratios")) {
        job->frame.options.selection.policy = TAMIS_COVERAGE;
        job->frame.options.selection.coverage = DEFAULT_COVERAGE;
        job->frame.options.ratio_count = 0;
    }
    for (int i = 0; (path = cli_value_at(cli, "peers", i)); i++)
        if (bench_peers_read(&job->peers, path) != TAMIS_OK) return cli_fail_as(cli, CLI_FAILED);
    return CLI_OK;
}

static int bench_all(struct job *job)
{
    const struct bench_options *o = &job->frame.options;
    struct tamisi_buf title = TAMISI_BUF_INIT;
    tamisi_buf_printf(&title, "pattern ");
    tamisi_pattern_describe(&title, &job->base.pattern);
    bench_frame_title(&job->frame, title.data ? title.data : "");
    tamisi_buf_free(&title);
    open_table(job);
    job->frame.total =
        (long long)o->dtypes.count * o->head_dims.count * o->lengths.count * (o->ratio_count > 0 ? o->ratio_count : 1);
    return bench_frame_run(&job->frame, run_length, job);
}

static int run(struct cli *cli)
{
    struct job job = {.frame = {.cli = cli}, .base = {.structure = STRUCTURED_INIT, .pattern = TAMIS_PATTERN_INIT}};
    int code = read_options(&job);
    if (code == CLI_OK) code = bench_frame_open(&job.frame);
    if (code == CLI_OK) code = bench_all(&job);
    bench_frame_close(&job.frame);
    bench_peers_free(&job.peers);
    return code;
}

static const struct cli_option options[] = {
    {"lengths", 0, "LIST", "sequence lengths, with commas between; default: 8192,32768,131072"},
    PATTERN_OPTION,
    {"coverage", 0, "X", "keep tokens by coverage; default: 0.02"},
    {"ratios", 0, "LIST", "keep by ratio instead, of each the four ways"},
    {"scope", 0, "head|kv_group|layer", "which heads choose together; default: head"},
    {"window", 0, "N", "last queries that score, and are kept; default: 128"},
    {"pool", 0, "N", "width of the moving average over scores; default: 7"},
    {"min-tokens", 0, "N", "never keep fewer before the window; default: 1024"},
    STRUCTURED_OPTIONS,
    BENCH_OPTIONS,
    {"seed", 0, "N", "of the inputs; default: 1"},
    {"peers", 0, "FILE", "figures of other kernels, from examples/bench/peers.py; may be repeated"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "a spec or template is invalid"},
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is missing and could not be compiled"},
    {CLI_NUMERICS, "dense attention is wrong, or a result is NaN; nothing was timed"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; what was timed is printed"},
    {0, NULL}};

const struct cli_command cmd_bench_compose = {
    .name = "bench compose",
    .operands = "STORE|SPEC... [option...]",
    .operand_max = -1,
    .summary = "time token selection and a block pattern, alone and together",
    .description =
        "Run attention in four ways on the same inputs: dense, with the block pattern, with token selection, and with both. "
        "A round runs each once, in one call, from Q, K and V to the output, and the median of the rounds counts. Inputs have "
        "the structure of a model's attention: sinks, a local band and heavy hitters, by the options below, on random numbers. "
        "ERROR is the relative error of sampled rows of three heads against dense attention in double precision, rows that "
        "were dropped left out; KEPT the tokens that are kept; BLOCKS the part of all blocks that the pattern lists where no "
        "token is dropped, and LISTS the part of its MS that making these lists takes, timed alone. DENSE is the dense run's "
        "time over MS, a backend's column of --peers its own dense time over MS. Without --pattern it is flexprefill.",
    .options = options,
    .exits = exits,
    .examples = "tamis bench compose llama.tamis --lengths 131072\n"
                "tamis bench compose llama.tamis --pattern flexprefill --coverage 0.005 --peers peers.json --json\n"
                "tamis bench compose --device cpu --lengths 512 --min-tokens 16 --pattern blocks=mask.npy\n",
    .run = run};
