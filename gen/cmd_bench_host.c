/*
 * cmd_bench_host.c: `tamis bench host`: the host's own time, cold and warm, in processes of their own.
 */
#include "bench_host.h"

#include "bench.h"
#include "cmd.h"
#include "device.h"
#include "plan.h"

#include <stdio.h>
#include <string.h>

#define MAX_PROCESSES 100
#define MAX_SEQ_LEN 16777216

struct job {
    struct cli *cli;
    const char *store; /* path */
    char spec[64];
    tamis_problem problem;
    struct device device; /* its number: only the other processes open it */
    int processes, calls;
    struct bench_host_figure figures[MAX_PROCESSES];
};

/* What is printed of the processes: of each figure the median and the most. */
static const struct {
    const char *name, *text;
    int offset;
} rows[] = {{"start_ms", "CUDA's own start", offsetof(struct bench_host_figure, start_ms)},
            {"open_ms", "open the store", offsetof(struct bench_host_figure, open_ms)},
            {"plan_ms", "make a plan", offsetof(struct bench_host_figure, plan_ms)},
            {"launch_ms", "first launch", offsetof(struct bench_host_figure, launch_ms)},
            {"replan_ms", "a plan again", offsetof(struct bench_host_figure, replan_ms)},
            {"run_us", "a call", offsetof(struct bench_host_figure, run_us)},
            {"busy_run_us", "a call, stream busy", offsetof(struct bench_host_figure, busy_run_us)},
            {"replay_us", "a graph's replay", offsetof(struct bench_host_figure, replay_us)}};
#define ROWS ((int)(sizeof rows / sizeof *rows))

struct spread {
    double median, most;
};

static struct spread spread_of(double *values, int count)
{
    struct spread out = {.median = bench_median(values, count)};
    out.most = values[count - 1]; /* they are sorted now */
    return out;
}

/* Every process's, whose figures are doubles at the row's offset. */
static struct spread spread_of_row(const struct job *job, int row)
{
    double values[MAX_PROCESSES];
    for (int i = 0; i < job->processes; i++)
        memcpy(&values[i], (const char *)&job->figures[i] + rows[row].offset, sizeof *values);
    return spread_of(values, job->processes);
}

/* All that comes before the first result, but for CUDA's own start. */
static struct spread spread_of_first(const struct job *job)
{
    double values[MAX_PROCESSES];
    for (int i = 0; i < job->processes; i++)
        values[i] = job->figures[i].open_ms + job->figures[i].plan_ms + job->figures[i].launch_ms;
    return spread_of(values, job->processes);
}

/* ---- what is printed */

static void print_row(struct cli_table *cells, const char *text, const struct spread *spread, const char *unit)
{
    cli_table_add(cells, "%s", text);
    cli_table_add(cells, "%.3f", spread->median);
    cli_table_add(cells, "%.3f", spread->most);
    cli_table_add(cells, "%s", unit);
}

static void print_table(struct job *job)
{
    static const char *const heads[] = {"WHAT", "MEDIAN", "MOST", "UNIT"};
    const struct spread first = spread_of_first(job);
    struct cli_table table;
    cli_print(job->cli, "%s: %s, seq_len %lld, ratio %g: %d processes, %d calls each\n", job->figures[0].gpu, job->spec,
              (long long)job->problem.seq_len, job->problem.selection.ratio, job->processes, job->calls);
    cli_table_init(&table, heads, 4, 0x6u);
    for (int row = 0; row < ROWS; row++) {
        const struct spread spread = spread_of_row(job, row);
        print_row(&table, rows[row].text, &spread, strstr(rows[row].name, "_us") ? "us" : "ms");
        if (strcmp(rows[row].name, "launch_ms") == 0) print_row(&table, "these three together", &first, "ms");
    }
    cli_table_print(&table, job->cli);
    cli_table_free(&table);
}

static void put_spread(struct json *json, const char *name, const struct spread *spread)
{
    char most[32];
    snprintf(most, sizeof most, "most_%s", name);
    json_real(json, name, spread->median);
    json_real(json, most, spread->most);
}

static void print_json(struct job *job)
{
    const struct spread first = spread_of_first(job);
    struct json json;
    cli_json_begin(job->cli, &json, "bench_host");
    json_string(&json, "gpu", job->figures[0].gpu);
    json_string(&json, "spec", job->spec);
    json_int(&json, "seq_len", job->problem.seq_len);
    json_real(&json, "ratio", job->problem.selection.ratio);
    json_int(&json, "processes", job->processes);
    json_int(&json, "calls", job->calls);
    put_spread(&json, "first_ms", &first);
    for (int row = 0; row < ROWS; row++) {
        const struct spread spread = spread_of_row(job, row);
        put_spread(&json, rows[row].name, &spread);
    }
    cli_json_end(job->cli, &json);
}

/* ---- all of it */

static int read_spec(struct job *job)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, job->cli};
    struct tamisi_spec_row row;
    tamis_store *store = NULL;
    tamis_status status = tamis_store_open(&store, job->store, &options);
    if (status == TAMIS_OK) status = tamisi_store_get_spec(&row, store, cli_value(job->cli, "spec"));
    if (status == TAMIS_OK) {
        job->problem = row.problem;
        snprintf(job->spec, sizeof job->spec, "%s", row.name);
        tamisi_spec_row_free(&row);
    }
    tamis_store_free(store); /* before there are other processes */
    return status == TAMIS_OK ? CLI_OK : cli_fail(job->cli, status);
}

static int read_arguments(struct job *job)
{
    struct cli *cli = job->cli;
    long long seq_len = 16384, processes = 5, calls = 200;
    double ratio = 0.5;
    int code = device_choose(&job->device, cli, 0);
    if (code == CLI_OK && job->device.ordinal == TAMIS_DEVICE_CPU)
        code = cli_usage(cli, "--device cpu: there is nothing to launch on it");
    if (code == CLI_OK) code = read_spec(job);
    if (code != CLI_OK) return code;
    if (!cli_integer(cli, "seq-len", 1, MAX_SEQ_LEN, &seq_len) || !cli_real(cli, "ratio", 0.001, 1, &ratio) ||
        !cli_integer(cli, "processes", 1, MAX_PROCESSES, &processes) || !cli_integer(cli, "calls", 1, 100000, &calls))
        return CLI_USAGE;
    job->problem.seq_len = seq_len;
    job->problem.selection.policy = TAMIS_RATIO;
    job->problem.selection.ratio = ratio;
    job->processes = (int)processes;
    job->calls = (int)calls;
    const tamis_status status = tamisi_problem_check(&job->problem);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

static int run(struct cli *cli)
{
    struct job job = {.cli = cli, .store = cli->operands[0]};
    const int code = read_arguments(&job);
    if (code != CLI_OK) return code;
    cli_catch_interrupt();
    for (int i = 0; i < job.processes; i++) {
        cli_progress(cli, i, job.processes, "process");
        const tamis_status status =
            bench_host_fork(&job.figures[i], job.store, job.device.ordinal, &job.problem, job.calls);
        if (cli_interrupted()) return cli_error(cli, CLI_INTERRUPTED, "interrupted");
        if (status == TAMIS_EUNSUPPORTED && !job.figures[i].gpu[0]) return cli_fail_as(cli, CLI_NO_DEVICE);
        if (status == TAMIS_ENOTFOUND) return cli_fail_as(cli, CLI_COMPILE);
        if (status != TAMIS_OK) return cli_fail(cli, status);
    }
    cli_progress_end(cli);
    if (cli->json) print_json(&job);
    else print_table(&job);
    return CLI_OK;
}

static const struct cli_option options[] = {
    {"spec", 0, "NAME", "a spec of STORE; default: its only one"},
    {"seq-len", 0, "N", "tokens of the prompt; default: 16384"},
    {"ratio", 0, "X", "of the tokens that are kept; default: 0.5"},
    {"processes", 0, "N", "that are started, one after the other; default: 5"},
    {"calls", 0, "N", "that are timed in each; default: 200"},
    {"device", 0, "DEVICE", "cuda:N; default: cuda:0"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is not compiled in STORE: run tamis gen or tamis tune"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C"},
    {0, NULL}};

const struct cli_command cmd_bench_host = {
    .name = "bench host",
    .operands = "STORE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "time what the library costs the host",
    .description =
        "Time the host, not the GPU, for a problem of one of STORE's specs. Each of several processes, of which none has used "
        "CUDA before, first starts CUDA: its library and a context, which is told apart. Then it opens STORE, makes a plan and "
        "calls tamis_run for the first time: this is one sample a process. Once all is warm come plans of the same problem, "
        "calls, and replays of a CUDA graph that holds one call, each until it returns and onto a stream that has nothing to "
        "do; calls also onto a stream that still works on the ones before: of these the median of a process counts. MEDIAN "
        "and MOST are over the processes. Memory is allocated before any of it, inputs are zeros, and no result is looked at; "
        "nothing is compiled.",
    .options = options,
    .exits = exits,
    .examples = "tamis bench host llama.tamis\n"
                "tamis bench host models.tamis --spec llama-3.1-8b --seq-len 131072 --processes 9 --json\n",
    .run = run};
