/*
 * cmd_bench.c: `tamis bench attention`: the attention kernels timed over lengths, head dims and dtypes, checked first, and
 * set beside the figures of others.
 */
#define _GNU_SOURCE
#include "bench_options.h"
#include "bench_stores.h"
#include "bench_table.h"
#include "cmd.h"
#include "device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct job {
    struct cli *cli;
    struct bench_options options;
    struct device device;
    struct bench_stores stores;
    struct bench_peers peers;
    struct bench bench;
    struct bench_table table;
    long long done, total; /* figures */
    int code;              /* the worst so far */
    bool stop;             /* the device can be used no more */
};

static void note_code(struct job *job, int code)
{
    if (code == CLI_NUMERICS || job->code == CLI_OK) job->code = code;
}

/* ---- one figure */

static struct bench_case make_case(const struct job *job, tamis_dtype dtype, int head_dim, long long seq_len)
{
    struct bench_case made = {.problem = TAMIS_PROBLEM_INIT};
    made.problem.dtype = dtype;
    made.problem.q_heads = job->options.q_heads;
    made.problem.kv_heads = job->options.kv_heads;
    made.problem.head_dim = head_dim;
    made.problem.seq_len = seq_len;
    made.store = bench_stores_find(&job->stores, head_dim, dtype);
    return made;
}

static void note_wrong(struct job *job, const struct bench_case *bench_case, const struct bench_figure *figure)
{
    char what[160];
    bench_describe(what, sizeof what, bench_case);
    note_code(job, cli_error(job->cli, CLI_NUMERICS, "%s: the error is %.3g, at most %g is right; not timed (%s)", what,
                             figure->error, figure->error_limit, figure->variant));
}

/* False: there are no figures, and it was said why; or the bench is to end. */
static bool measure(struct job *job, const struct bench_case *cases, struct bench_figure *figures, int count)
{
    char what[160];
    bool right = true;
    if (job->stop || cli_interrupted()) return false;
    bench_describe(what, sizeof what, &cases[count - 1]);
    cli_progress(job->cli, job->done, job->total, what);
    job->done += count;
    const tamis_status status = bench_measure(&job->bench, figures, cases, count);
    if (status != TAMIS_OK) {
        job->stop = status == TAMIS_ECUDA;
        cli_note(job->cli, "at %s:", what);
        note_code(job, cli_fail(job->cli, status));
        return false;
    }
    for (int i = 0; i < count; i++) {
        if (!figures[i].right) note_wrong(job, &cases[i], &figures[i]);
        right = right && figures[i].right;
    }
    return right;
}

static void run_dense(struct job *job, const struct bench_case *bench_case)
{
    struct bench_figure figure;
    if (measure(job, bench_case, &figure, 1)) bench_table_add(&job->table, bench_case, &figure, 0);
}

/* Compact rows, in turns with a dense problem of as many rows with K and V for each query head. */
static void run_compact(struct job *job, const struct bench_case *base, double ratio)
{
    enum { DENSE, COMPACT, BOTH };
    const long long seq_len = base->problem.seq_len, rows = llround(ratio * (double)seq_len) > 1
                                                                ? llround(ratio * (double)seq_len) : 1;
    struct bench_case cases[BOTH] = {*base, *base};
    struct bench_figure figures[BOTH];
    tamis_selection *selection = &cases[COMPACT].problem.selection;
    cases[DENSE].problem.seq_len = rows;
    cases[DENSE].problem.kv_heads = base->problem.q_heads;
    selection->policy = TAMIS_COUNT;
    selection->min_tokens = 0;
    if (rows < selection->window) selection->window = (int32_t)rows;
    selection->count = rows - selection->window;
    if (!measure(job, cases, figures, BOTH)) return;
    bench_table_add(&job->table, &cases[DENSE], &figures[DENSE], 0);
    bench_table_add(&job->table, &cases[COMPACT], &figures[COMPACT], figures[DENSE].ms);
}

/* A random block pattern, in turns with all blocks. What is compared is the rate at which products are done. */
static void run_density(struct job *job, const struct bench_case *base, double density)
{
    enum { DENSE, BLOCKS, BOTH };
    struct bench_case cases[BOTH] = {*base, *base};
    struct bench_figure figures[BOTH];
    cases[BLOCKS].density = density;
    if (!measure(job, cases, figures, BOTH)) return;
    bench_table_add(&job->table, &cases[DENSE], &figures[DENSE], 0);
    bench_table_add(&job->table, &cases[BLOCKS], &figures[BLOCKS],
                    figures[DENSE].ms * figures[BLOCKS].flops / figures[DENSE].flops);
}

static void run_length(void *payload, tamis_dtype dtype, int head_dim, long long seq_len)
{
    struct job *job = payload;
    struct bench_case bench_case = make_case(job, dtype, head_dim, seq_len);
    for (int i = 0; i < job->options.masks.count; i++) {
        bench_case.problem.mask = (tamis_mask)job->options.masks.values[i];
        run_dense(job, &bench_case);
    }
    bench_case.problem.mask = TAMIS_CAUSAL;
    for (int i = 0; i < job->options.kept_count; i++) run_compact(job, &bench_case, job->options.kept[i]);
    for (int i = 0; i < job->options.density_count; i++) run_density(job, &bench_case, job->options.densities[i]);
}

static int run_all(struct job *job)
{
    const struct bench_options *o = &job->options;
    job->total = (long long)o->dtypes.count * o->head_dims.count * o->lengths.count *
                 (o->masks.count + 2 * (o->kept_count + o->density_count));
    bench_options_each(o, run_length, job);
    cli_progress_end(job->cli);
    return cli_interrupted() ? cli_error(job->cli, CLI_INTERRUPTED, "interrupted: %lld figures of %lld were begun",
                                         job->done, job->total)
                             : job->code;
}

/* ---- what it runs on */

static int read_peers(struct job *job)
{
    const char *path;
    for (int i = 0; (path = cli_value_at(job->cli, "peers", i)); i++)
        if (bench_peers_read(&job->peers, path) != TAMIS_OK) return cli_fail_as(job->cli, CLI_FAILED);
    return CLI_OK;
}

static int bench_all(struct job *job)
{
    const unsigned long long seed = (unsigned long long)job->options.seed;
    if (bench_begin(&job->bench, job->device.context, job->options.rounds, seed) != TAMIS_OK)
        return cli_fail_as(job->cli, CLI_FAILED);
    job->table.cli = job->cli;
    job->table.peers = &job->peers;
    job->table.device = job->device.name;
    job->table.gpu = job->stores.gpu;
    job->table.rounds = job->options.rounds;
    job->table.kept = job->options.kept_count > 0;
    job->table.density = job->options.density_count > 0;
    if (!job->cli->json)
        cli_print(job->cli, "%s%s%s%s: median of %d rounds\n", job->device.name, job->table.gpu ? " (" : "",
                  job->table.gpu ? job->table.gpu : "", job->table.gpu ? ")" : "", job->options.rounds);
    bench_table_open(&job->table);
    const int code = run_all(job);
    bench_table_close(&job->table);
    return code;
}

static int run(struct cli *cli)
{
    struct job job = {.cli = cli};
    int code = bench_options_read(&job.options, cli);
    cli_catch_interrupt();
    if (code == CLI_OK) code = read_peers(&job);
    if (code == CLI_OK) code = device_open_bare(&job.device, cli);
    if (code == CLI_OK) code = bench_stores_open(&job.stores, cli, &job.device, &job.options.head_dims);
    if (code == CLI_OK) code = bench_all(&job);
    bench_end(&job.bench);
    bench_stores_close(&job.stores);
    bench_peers_free(&job.peers);
    device_close(&job.device);
    return code;
}

static const struct cli_option options[] = {
    {"lengths", 0, "LIST", "sequence lengths, with commas between; default: 8192,32768,131072"},
    {"head-dims", 0, "64|96|128|256,...", "default: those that there are kernels for"},
    {"dtypes", 0, "bf16|fp16,...", "default: bf16"},
    {"q-heads", 0, "N", "query heads; default: 32"},
    {"kv-heads", 0, "N", "KV heads; default: 8"},
    {"mask", 0, "causal|full,...", "default: causal"},
    {"kept", 0, "LIST", "ratios: time the kernel on so many compressed rows too, against a dense problem of that length"},
    {"density", 0, "LIST", "ratios: time random block patterns too that have so many of the blocks, against all of them"},
    {"rounds", 0, "N", "runs that are timed; default: 7"},
    {"seed", 0, "N", "of the random inputs; default: 1"},
    {"peers", 0, "FILE", "figures of other kernels, from examples/bench/peers.py; may be repeated"},
    {"device", 0, "DEVICE", "cpu or cuda:N; default: cuda:0"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "a spec or template is invalid"},
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is missing and could not be compiled"},
    {CLI_NUMERICS, "a kernel's result is wrong; it was not timed"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; what was timed is printed"},
    {0, NULL}};

static const struct cli_command command_attention = {
    .name = "bench attention",
    .operands = "STORE|SPEC... [option...]",
    .operand_max = -1,
    .summary = "time the attention kernels",
    .description =
        "Time the attention kernels of each STORE, or those generated anew for a SPEC, on random inputs of batch 1. "
        "Before a kernel is timed its output is poisoned and sampled rows of three heads are compared with double "
        "precision. Then come two runs to warm up and the rounds, each between two events; the median counts. "
        "TFLOP/S counts two products of L * L * D a query head, half of that under the causal mask, which is as "
        "others count. MHZ is the clock in the last round, where NVML tells it. With --peers a column a backend "
        "gives its best time for the problem over ours: above 1, ours is faster. With --kept, DENSE gives the same "
        "against a dense problem of as many rows, with as many KV heads as query heads, which a round runs before it. With "
        "--density, each query block of 128 attends to itself and to as many random blocks before it as make that part of "
        "them; TFLOP/S counts the products of these blocks alone, and DENSE is its ratio to that of all blocks, in a round "
        "before it.",
    .options = options,
    .exits = exits,
    .examples = "tamis bench attention llama.tamis --lengths 8192,131072\n"
                "tamis bench attention llama.tamis --kept 0.5 --peers peers.json --json\n"
                "tamis bench attention llama.tamis --lengths 131072 --density 0.5,0.25,0.1\n"
                "tamis bench attention --device cpu --lengths 512\n",
    .run = run};

static const struct cli_command *const children[] = {
    &command_attention, &cmd_bench_operator, &cmd_bench_compose, &cmd_bench_ablate, &cmd_bench_host, NULL};

const struct cli_command cmd_bench = {
    .name = "bench",
    .operands = "attention|operator|compose|ablate|host [argument...]",
    .operand_max = -1,
    .summary = "time kernels",
    .description =
        "Time the kernels of a store on this machine's GPU: attention alone, the operator whole and in its steps, or with a "
        "block pattern, or choosing tokens in other ways; or the host that calls them.",
    .children = children};
