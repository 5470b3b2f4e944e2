/*
 * bench_frame.c: see bench_frame.h.
 */
#define _GNU_SOURCE
#include "bench_frame.h"

int bench_frame_open(struct bench_frame *frame)
{
    struct cli *cli = frame->cli;
    cli_catch_interrupt();
    int code = device_open_bare(&frame->device, cli);
    if (code == CLI_OK) code = bench_stores_open(&frame->stores, cli, &frame->device, &frame->options.head_dims);
    if (code == CLI_OK && bench_begin(&frame->bench, frame->device.context, frame->options.rounds,
                                      (unsigned long long)frame->options.seed) != TAMIS_OK)
        code = cli_fail_as(cli, CLI_FAILED);
    return code;
}

void bench_frame_close(struct bench_frame *frame)
{
    cli_table_free(&frame->table);
    bench_end(&frame->bench);
    bench_stores_close(&frame->stores);
    device_close(&frame->device);
}

void bench_frame_title(struct bench_frame *frame, const char *text)
{
    const char *gpu = frame->stores.gpu;
    if (frame->cli->json) return;
    cli_print(frame->cli, "%s%s%s%s: median of %d rounds; %s\n", frame->device.name, gpu ? " (" : "", gpu ? gpu : "",
              gpu ? ")" : "", frame->options.rounds, text);
}

bool bench_frame_next(struct bench_frame *frame, const char *what)
{
    if (frame->stop || cli_interrupted()) return false;
    cli_progress(frame->cli, frame->done++, frame->total, what);
    return true;
}

void bench_frame_note(struct bench_frame *frame, int code)
{
    if (code == CLI_NUMERICS || frame->code == CLI_OK) frame->code = code;
}

void bench_frame_failed(struct bench_frame *frame, tamis_status status, const char *what)
{
    frame->stop = status == TAMIS_ECUDA;
    cli_note(frame->cli, "at %s:", what);
    bench_frame_note(frame, cli_fail(frame->cli, status));
}

int bench_frame_run(struct bench_frame *frame,
                    void (*visit)(void *payload, tamis_dtype dtype, int head_dim, long long seq_len), void *payload)
{
    bench_options_each(&frame->options, visit, payload);
    cli_progress_end(frame->cli);
    if (cli_interrupted())
        frame->code = cli_error(frame->cli, CLI_INTERRUPTED, "interrupted: %lld figures of %lld were begun", frame->done,
                                frame->total);
    if (frame->table.count > 0) cli_table_print(&frame->table, frame->cli);
    return frame->code;
}

tamis_problem bench_frame_problem(const struct bench_frame *frame, tamis_dtype dtype, int head_dim, long long seq_len)
{
    tamis_problem problem = TAMIS_PROBLEM_INIT;
    problem.dtype = dtype;
    problem.q_heads = frame->options.q_heads;
    problem.kv_heads = frame->options.kv_heads;
    problem.head_dim = head_dim;
    problem.seq_len = seq_len;
    return problem;
}
