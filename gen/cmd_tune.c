/*
 * cmd_tune.c: `tamis tune`: the search of tune.c with a store as journal, a build behind its back, and a process that runs
 * candidates; and what is said of it. The tool itself never touches the GPU.
 */
#define _GNU_SOURCE
#include "cmd.h"
#include "error.h"
#include "spec_pattern.h"
#include "tune_book.h"
#include "tune_build.h"
#include "tune_lock.h"
#include "tune_print.h"
#include "tune_set.h"
#include "tune_worker.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEVICES 64

static const char *const rigors[] = {"quick", "normal", "exhaustive", NULL};

struct job {
    struct cli *cli;
    struct bench_list lengths, dtypes;
    double ratios[BENCH_MAX_LIST];
    int ratio_count;
    int devices[MAX_DEVICES];
    int device_count; /* 0: all */
    double budget_s;  /* 0: none */
    tamis_pattern pattern; /* --pattern's, where it is given */
    long long threads;
    struct tune_options options;
    char boot[64];

    tamis_store *store;
    struct tune_worker worker;
    struct tune_set set;
    struct tune_build build;
    struct tune_book book;
    struct tune_journal journal;
    struct cli_table table;
    double started;
    double done_cost, all_cost; /* of tasks, in tune_cost()'s seconds */
    size_t done, all;           /* tasks; of this device */
    struct {
        size_t tasks, tuned, timed, refused, bad, unknown; /* tuned: tasks that were not cut short */
        double log_gain; /* sum of the logarithms */
        size_t gains;
    } sum;
    struct tamisi_gpu_identity tuned[MAX_DEVICES]; /* GPUs that were, one of a kind */
    int tuned_count;
    bool cut_short; /* something was left undone, for want of time */
    int code;       /* of a failure that a callback knows best; CLI_OK: none */
};

/* ---- arguments */

/* "90", "90s", "5m", "1.5h": seconds. */
static bool read_budget(struct job *job)
{
    const char *text = cli_value(job->cli, "budget");
    char *end;
    if (!text) return true;
    const double value = strtod(text, &end);
    const double unit = *end == 'h' ? 3600 : *end == 'm' ? 60 : 1;
    const bool number = end > text && (isdigit((unsigned char)*text) || *text == '.') && value > 0 && value <= 1e6;
    if (!number || (*end && !strchr("smh", *end)) || (*end && end[1]))
        return cli_usage(job->cli, "--budget: \"%s\" is no time, 5m, 90s or 1h would be one", text), false;
    job->budget_s = value * unit;
    return true;
}

/* "all", or numbers with commas between, each given once. */
static bool read_devices(struct job *job)
{
    const char *text = cli_value(job->cli, "devices"), *at = text ? text : "0";
    if (strcmp(at, "all") == 0) return true;
    do {
        char *end;
        const long ordinal = isdigit((unsigned char)*at) ? strtol(at, &end, 10) : -1;
        if (ordinal < 0 || ordinal > 1023 || job->device_count == MAX_DEVICES || (*end && *end != ','))
            return cli_usage(job->cli, "--devices: \"%s\" is neither all nor GPUs' numbers with commas between", text), false;
        for (int i = 0; i < job->device_count; i++)
            if (job->devices[i] == ordinal) return cli_usage(job->cli, "--devices: %ld is given twice", ordinal), false;
        job->devices[job->device_count++] = (int)ordinal;
        at = *end ? end + 1 : NULL;
    } while (at);
    return true;
}

static bool read_pattern(struct job *job)
{
    const char *text = cli_value(job->cli, "pattern");
    char wrong[320];
    if (!text || spec_pattern_read(&job->pattern, text, wrong, sizeof wrong)) return true;
    return cli_usage(job->cli, "--pattern: %s", wrong), false;
}

static bool read_arguments(struct job *job)
{
    struct cli *cli = job->cli;
    int rigor = TAMISI_NORMAL;
    job->threads = sysconf(_SC_NPROCESSORS_ONLN);
    job->worker.limit_s = 60;
    if (!bench_options_lengths(cli, "8192,16384,32768,65536,131072", &job->lengths) ||
        !bench_options_ratios(cli, NULL, job->ratios, &job->ratio_count) || !bench_options_dtypes(cli, NULL, &job->dtypes) ||
        !read_pattern(job) || !read_budget(job) || !read_devices(job) || !cli_choice(cli, "rigor", &rigor) ||
        !cli_integer(cli, "jobs", 1, 1024, &job->threads) || !cli_real(cli, "time-limit", 0.01, 3600, &job->worker.limit_s))
        return false;
    job->options = (struct tune_options){
        .rigor = (enum tamisi_rigor)rigor, .again = cli_given(cli, "again"), .when = time(NULL), .boot = job->boot};
    return true;
}

/* What the kernel calls this start of the machine; "" where it does not say. */
static void read_boot(char *out, size_t room)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    out[0] = '\0';
    if (!file) return;
    if (!fgets(out, (int)room, file)) out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(file);
}

/* ---- the device's functions */

static enum tune_verdict compile(void *payload, const struct tamisi_variant *variant, struct tamisi_resource *resources,
                                 int *count, char why[TUNE_WHY])
{
    struct job *job = payload;
    const size_t left = tune_build_left(&job->build);
    char what[96];
    if (left > 0) {
        snprintf(what, sizeof what, "compiling: %zu kernels are left", left);
        cli_progress(job->cli, (long long)job->done, (long long)job->all, what);
    }
    const enum tune_verdict verdict = tune_build_wait(&job->build, variant, resources, count, why);
    if (verdict == TUNE_BROKEN && job->build.broken == TAMIS_ECOMPILE) job->code = CLI_COMPILE;
    return verdict;
}

static enum tune_verdict check(void *payload, const struct tune_task *task, const struct tamisi_variant *variant,
                               char why[TUNE_WHY])
{
    struct job *job = payload;
    const enum tune_verdict verdict = tune_worker_check(&job->worker, task, variant, why);
    if (verdict == TUNE_BROKEN && job->worker.numerics) job->code = CLI_NUMERICS;
    return verdict;
}

static enum tune_verdict time_round(void *payload, const struct tune_task *task, const struct tamisi_variant *variant,
                                    struct tune_round *out, char why[TUNE_WHY])
{
    return tune_worker_time(&((struct job *)payload)->worker, task, variant, out, why);
}

static bool out_of_budget(const struct job *job)
{
    return job->budget_s > 0 && cli_seconds() - job->started >= job->budget_s;
}

static bool stop(void *payload) { return cli_interrupted() || out_of_budget(payload); }

/* Asked where there is more to do. */
static bool goes_on(struct job *job)
{
    job->cut_short = stop(job);
    return !job->cut_short;
}

/* ---- what is printed */

static void note_outcome(struct job *job, const struct tune_task *task, const struct tune_outcome *outcome, double seconds)
{
    job->sum.tasks++;
    job->sum.tuned += !outcome->interrupted;
    job->sum.timed += outcome->timed;
    job->sum.refused += outcome->refused;
    job->sum.bad += outcome->bad;
    job->sum.unknown += !outcome->chosen && !outcome->interrupted;
    if (outcome->default_us > 0 && outcome->chosen_us > 0) {
        job->sum.log_gain += log(outcome->default_us / outcome->chosen_us);
        job->sum.gains++;
    }
    if (job->cli->json)
        tune_print_json(job->cli, job->set.spec, job->worker.hello.gpu.name, task, outcome, seconds);
    else
        tune_print_row(&job->table, task, outcome);
}

/* "2m10s" */
static void format_seconds(char out[32], double seconds)
{
    const long whole = (long)(seconds + 0.5);
    if (whole >= 60) snprintf(out, 32, "%ldm%02lds", whole / 60, whole % 60);
    else snprintf(out, 32, "%lds", whole);
}

/* What is left by the tasks' costs and how long the ones so far have taken. */
static void show_progress(struct job *job, const struct tune_task *task, double tasks_started)
{
    char what[96], left[32] = "";
    const double spent = cli_seconds() - tasks_started;
    if (job->done_cost > 0 && spent > 2) {
        format_seconds(left, spent * (job->all_cost - job->done_cost) / job->done_cost);
        snprintf(what, sizeof what, "%s, seq_len %lld, about %s left", task->family, (long long)task->bucket.seq_len, left);
    } else
        snprintf(what, sizeof what, "%s, seq_len %lld", task->family, (long long)task->bucket.seq_len);
    cli_progress(job->cli, (long long)job->done, (long long)job->all, what);
}

/* ---- tuning */

/* What a plan takes after an attention task: the chosen one, or the default where nothing is known. */
static const struct tamisi_variant *taken(const struct tune_task *task, const struct tune_outcome *outcome)
{
    for (size_t i = 0; i < task->count && outcome->chosen; i++)
        if (strcmp(task->candidates[i].name, outcome->chosen) == 0) return &task->candidates[i];
    return &task->candidates[0];
}

/* `attend`: of the last attention task, whose shape the tasks that follow until the next one share. */
static int run_task(struct job *job, const struct tune_task *task, const struct tune_device *device,
                    const struct tamisi_variant **attend)
{
    struct tune_outcome outcome;
    const double started = cli_seconds();
    const tamis_status status = tune_run(&outcome, task, &job->options, device, &job->journal);
    if (status != TAMIS_OK) return job->code != CLI_OK ? cli_fail_as(job->cli, job->code) : cli_fail(job->cli, status);
    note_outcome(job, task, &outcome, cli_seconds() - started);
    job->done += !outcome.interrupted;
    job->cut_short = job->cut_short || outcome.interrupted;
    if (strcmp(task->family, "attend") == 0) *attend = taken(task, &outcome);
    return CLI_OK;
}

static int run_tasks(struct job *job, const struct tune_tasks *tasks, const struct tune_device *device)
{
    const double started = cli_seconds();
    const struct tamisi_variant *attend = NULL;
    int code = CLI_OK;
    job->done = 0;
    job->all = tasks->count;
    job->done_cost = job->all_cost = 0;
    for (size_t i = 0; i < tasks->count; i++) job->all_cost += tune_cost(&tasks->tasks[i]);
    for (size_t i = 0; i < tasks->count && code == CLI_OK && goes_on(job); i++) {
        const struct tune_task *task = &tasks->tasks[i];
        if (strcmp(task->family, "decompress") == 0 && attend && !tune_is_launched(task, attend)) {
            job->all--;
        } else {
            show_progress(job, task, started);
            code = run_task(job, task, device, &attend);
        }
        job->done_cost += tune_cost(task);
    }
    cli_progress_end(job->cli);
    return code;
}

/* Whom the compiler's report or the driver speaks against is counted; one that came as far as the GPU is a fault of ours. */
static void warn_of(void *payload, const struct tamisi_timing *row)
{
    const struct job *job = payload;
    if (row->state > TAMISI_REFUSED)
        cli_warn(job->cli, "%s, seq_len %lld, %s: %s", row->variant, (long long)row->bucket.seq_len,
                 tamisi_timing_state_name(row->state), row->note);
}

static int tune_dtype(struct job *job, tamis_dtype dtype)
{
    const double *ratios = job->ratio_count ? job->ratios : job->set.ratios;
    const int ratio_count = job->ratio_count ? job->ratio_count : job->set.ratio_count;
    const struct tune_shapes shapes = {.problem = job->set.problem,
                                       .pattern = cli_given(job->cli, "pattern") ? job->pattern : job->set.pattern,
                                       .lengths = job->lengths.values,
                                       .length_count = job->lengths.count,
                                       .ratios = ratios,
                                       .ratio_count = ratio_count,
                                       .dense = true};
    const struct tune_device device = {job, compile, check, time_round, stop, warn_of, job->worker.hello.gpu};
    struct tune_tasks tasks;
    struct tune_shapes typed = shapes;
    typed.problem.dtype = dtype;
    const tamis_status status = tune_tasks_make(&tasks, &typed, job->set.variants, job->set.count);
    if (status != TAMIS_OK) return cli_fail_as(job->cli, CLI_FAILED);
    const int code = run_tasks(job, &tasks, &device);
    tune_tasks_free(&tasks);
    return code;
}

/* GPUs of one kind share what is learned: one of them is enough. */
static bool is_tuned(struct job *job)
{
    const struct tamisi_gpu_identity *gpu = &job->worker.hello.gpu;
    for (int i = 0; i < job->tuned_count; i++)
        if (tamisi_gpu_equal(&job->tuned[i], gpu)) return true;
    if (job->tuned_count < MAX_DEVICES) job->tuned[job->tuned_count++] = *gpu;
    return false;
}

/* Variants of another dtype are not needed: they go, and are not compiled. */
static void keep_dtypes(struct job *job)
{
    size_t kept = 0;
    for (size_t i = 0; i < job->set.count; i++) {
        const int dtype = job->set.variants[i].dtype;
        bool wanted = dtype == TAMISI_ANY || (job->dtypes.count == 0 && dtype == (int)job->set.problem.dtype);
        for (int d = 0; d < job->dtypes.count; d++) wanted = wanted || job->dtypes.values[d] == dtype;
        if (wanted) job->set.variants[kept++] = job->set.variants[i];
    }
    job->set.count = kept;
}

static int tune_set(struct job *job)
{
    const tamis_dtype own = job->set.problem.dtype;
    int code = CLI_OK;
    keep_dtypes(job);
    const tamis_status status =
        tune_build_start(&job->build, job->store, job->set.variants, job->set.count, (int)job->threads);
    job->build.call_off = stop;
    job->build.payload = job;
    if (status != TAMIS_OK) code = cli_fail(job->cli, status);
    if (code == CLI_OK && job->dtypes.count == 0) code = tune_dtype(job, own);
    for (int i = 0; i < job->dtypes.count && code == CLI_OK && goes_on(job); i++)
        code = tune_dtype(job, (tamis_dtype)job->dtypes.values[i]);
    tune_build_stop(&job->build);
    return code;
}

static int tune_device(struct job *job, int ordinal)
{
    job->worker.ordinal = ordinal;
    tamis_status status = tune_worker_start(&job->worker);
    if (status == TAMIS_EUNSUPPORTED) return cli_fail_as(job->cli, CLI_NO_DEVICE);
    if (status != TAMIS_OK) return cli_fail(job->cli, status);
    int code = CLI_OK;
    if (is_tuned(job)) {
        cli_note(job->cli, "GPU %d is like one that was tuned", ordinal);
    } else {
        code = tune_set_open(&job->set, job->cli, job->store, cli_value(job->cli, "spec"), job->worker.hello.arch);
        if (code == CLI_OK)
            cli_note(job->cli, "%s: %s, %zu variants for %s, %s rigor", job->worker.hello.gpu.name, job->set.spec,
                     job->set.count, job->worker.hello.arch, rigors[job->options.rigor]);
        if (code == CLI_OK) code = tune_set(job);
        tune_set_free(&job->set);
    }
    tune_worker_stop(&job->worker);
    return code;
}

static int tune_devices(struct job *job)
{
    const bool all = job->device_count == 0;
    int code = tune_device(job, all ? 0 : job->devices[0]);
    const int count = all ? job->worker.hello.devices : job->device_count;
    for (int i = 1; i < count && code == CLI_OK && goes_on(job); i++) code = tune_device(job, all ? i : job->devices[i]);
    return code;
}

/* ---- all of it */

static void print_sum(struct job *job)
{
    const double gain = job->sum.gains ? exp(job->sum.log_gain / (double)job->sum.gains) : 1;
    const double seconds = cli_seconds() - job->started;
    struct json json;
    if (job->table.count > 0) cli_table_print(&job->table, job->cli);
    cli_note(job->cli, "%s: %zu buckets, %zu candidates timed, %zu refused, %zu bad, %.1f s; over the defaults a gain of "
                       "%.3f in the geometric mean",
             tamisi_store_path(job->store), job->sum.tasks, job->sum.timed, job->sum.refused, job->sum.bad, seconds, gain);
    if (job->sum.unknown > 0)
        cli_warn(job->cli, "of %zu buckets nothing is known: no candidate was right, or the GPU was throttled all the time",
                 job->sum.unknown);
    if (!job->cli->json) return;
    cli_json_begin(job->cli, &json, "tune");
    json_string(&json, "store", tamisi_store_path(job->store));
    json_string(&json, "rigor", rigors[job->options.rigor]);
    json_int(&json, "buckets", (long long)job->sum.tasks);
    json_int(&json, "timed", (long long)job->sum.timed);
    json_int(&json, "refused", (long long)job->sum.refused);
    json_int(&json, "bad", (long long)job->sum.bad);
    json_real(&json, "gain", gain);
    json_real(&json, "seconds", seconds);
    cli_json_end(job->cli, &json);
}

static int finish(struct job *job, int code)
{
    cli_progress_end(job->cli);
    if (job->sum.tasks > 0) print_sum(job);
    if (code != CLI_OK) return code;
    if (cli_interrupted())
        return cli_error(job->cli, CLI_INTERRUPTED,
                         "interrupted: the best so far is saved; the same command goes on from there");
    if (job->cut_short)
        return cli_error(job->cli, CLI_PARTIAL,
                         "the budget is spent, with %zu buckets tuned; the same command goes on from there", job->sum.tuned);
    return CLI_OK;
}

static int run(struct cli *cli)
{
    struct job job = {.cli = cli, .started = cli_seconds()};
    const tamis_store_options create = {sizeof create, TAMIS_STORE_CREATE, cli_log, cli};
    if (!read_arguments(&job)) return CLI_USAGE;
    /* A mistyped name would else become an empty store. */
    if (!cli_given(cli, "spec") && access(cli->operands[0], F_OK) != 0)
        return cli_error(cli, CLI_FAILED, "no store %s: tamis gen makes one, or --spec SPEC here", cli->operands[0]);
    cli_catch_interrupt();
    signal(SIGPIPE, SIG_IGN); /* a process that is gone shows when it is written to */
    read_boot(job.boot, sizeof job.boot);
    job.worker.store = cli->operands[0];
    tune_print_begin(&job.table);
    const tamis_status status = tamis_store_open(&job.store, cli->operands[0], &create);
    int code = CLI_OK, lock = -1;
    if (status != TAMIS_OK) code = cli_fail(cli, status);
    else if (!tune_lock_take(&lock, cli->operands[0]))
        code = cli_error(cli, CLI_FAILED, "%s: another tamis tune is at work on it, and two would disturb each other's times",
                         cli->operands[0]);
    if (code == CLI_OK) {
        tune_book_open(&job.book, job.store, &job.journal);
        code = finish(&job, tune_devices(&job));
        tune_book_close(&job.book);
    }
    tune_worker_stop(&job.worker);
    cli_table_free(&job.table);
    tamis_store_free(job.store);
    tune_lock_release(lock);
    return code;
}

static const struct cli_option options[] = {
    {"spec", 0, "SPEC", "a spec of STORE; or one to generate into it. Default: the only one of STORE"},
    {"lengths", 0, "LIST", "sequence lengths, with commas between; default: 8192,16384,32768,65536,131072"},
    {"ratios", 0, "LIST", "of the tokens that are kept; default: the spec's. Dense runs are always tuned"},
    {"dtypes", 0, "bf16|fp16,...", "default: the spec's first"},
    {"pattern", 0, "KIND,...", "block pattern whose makers are tuned, as for run; none for no makers; default: the spec's"},
    {"rigor", 0, "quick|normal|exhaustive", "how many candidates and rounds; default: normal"},
    {"budget", 0, "TIME", "stop after this time, as 5m, 90s or 1h; default: when all is tuned"},
    {"devices", 0, "LIST", "GPUs by number, or all: one of each kind is tuned; default: 0"},
    {"again", 0, NULL, "time what was timed before too, and try again what was found bad"},
    {"time-limit", 0, "S", "seconds that a candidate may take for an answer; default: 60"},
    {"jobs", 'j', "N", "compile on so many threads; default: one a core"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text exits[] = {
    {CLI_SPEC, "the spec or a template is invalid"},
    {CLI_NO_DEVICE, "no NVIDIA driver, no such GPU, or one that is too old"},
    {CLI_COMPILE, "a kernel is missing and there is no NVRTC to compile it"},
    {CLI_NUMERICS, "the default kernels are wrong: there is nothing to measure others against"},
    {CLI_PARTIAL, "the budget is spent; what was tuned is in the store"},
    {CLI_INTERRUPTED, "interrupted by Ctrl-C; the best so far is in the store"},
    {0, NULL}};

const struct cli_command cmd_tune = {
    .name = "tune",
    .operands = "STORE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "time a spec's variants on this GPU, so that plans take the fastest",
    .description =
        "For each length, dense and by each ratio, and for each kernel of the operator, time the variants that STORE has "
        "for this GPU, and write what was found into STORE: plans choose by it from then on. A variant is compiled if need "
        "be, left out if it spills registers or serialises wgmma, and checked against double precision before its time "
        "counts. Slow ones are stopped early, and where runs are long not tried at greater lengths, unless the rigor is "
        "exhaustive; the rest is timed in interleaved rounds, with an emptied L2 cache and a warm one, until the best is "
        "told from the others. Rounds in which heat held the clock down are repeated. The default stays unless another is "
        "faster beyond the noise. Of a spec with kernels for block patterns, attention on listed blocks is tuned too, on lists "
        "that hold a half, a quarter and a tenth of the blocks, and the makers of the spec's own pattern. Variants "
        "run in a process of their own: one that breaks or "
        "hangs it is not tried again.\n"
        "What is in STORE already is not timed again, unless more rigor is asked for: an interrupted run is continued by "
        "the same command, and a new tile size costs only itself. A store is tuned by one process at a time.",
    .options = options,
    .exits = exits,
    .examples = "tamis tune llama.tamis --budget 5m\n"
                "tamis tune new.tamis --spec llama-3.1-8b --lengths 32768,131072 --ratios 0.5 --rigor quick\n"
                "tamis tune llama.tamis --rigor exhaustive --devices all --json\n",
    .run = run};
