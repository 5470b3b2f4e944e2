/*
 * fake_tune_worker.c: the process that runs candidates for `tamis tune`, without a GPU: times of fiction, the same for the
 * same variant and shape from run to run. TAMIS_TUNE_WORKER names it. The environment plants what is wrong; each value is a
 * part of variants' names:
 *
 *   FAKE_TUNE_FAST   takes half the time      FAKE_TUNE_WRONG  has wrong numbers
 *   FAKE_TUNE_HANG   does not come back       FAKE_TUNE_FAULT  ends the process by a signal
 *   FAKE_TUNE_LATE   ends the process only when it is timed
 *   FAKE_TUNE_LOG    a file that each question is noted in
 *   FAKE_TUNE_US     so long each answer takes
 *   FAKE_TUNE_NONE   there is no GPU
 */
#define _GNU_SOURCE
#include "tune_wire.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static bool planted(const char *setting, const struct tune_wire_request *request)
{
    const char *part = getenv(setting);
    return part && *part && strstr(request->variant, part);
}

static void note(const struct tune_wire_request *request)
{
    const char *path = getenv("FAKE_TUNE_LOG");
    FILE *log = path ? fopen(path, "a") : NULL;
    if (!log) return;
    fprintf(log, "%s %s %s %lld %d %g %d %g\n", request->op == TUNE_WIRE_TIME ? "time" : "check", request->family,
            request->variant, (long long)request->problem.seq_len, (int)request->problem.selection.policy,
            request->problem.selection.ratio, (int)request->lists.pattern.kind, request->lists.density);
    fclose(log);
}

static void rest(void)
{
    const char *us = getenv("FAKE_TUNE_US");
    const long ns = us ? 1000 * atol(us) : 0;
    const struct timespec pause = {ns / 1000000000, ns % 1000000000};
    if (ns > 0) nanosleep(&pause, NULL);
}

static void answer_time(const struct tune_wire_request *request, struct tune_wire_answer *answer)
{
    const struct tamisi_hash hash = tamisi_hash_bytes(request->variant, strlen(request->variant));
    const double length = (double)request->problem.seq_len / 8192;
    const bool whole = strcmp(request->family, "attend") == 0 || strcmp(request->family, "decompress") == 0;
    const bool sparse = request->problem.selection.policy == TAMIS_RATIO;
    const double part = sparse ? request->problem.selection.ratio : 1;
    double us = (100 + hash.bytes[0] % 100) * length;
    if (whole) us *= 5 * length * part * part + (sparse ? 3 : 0); /* attention, and all that comes before it */
    if (request->lists.density > 0) us *= 5 * length * request->lists.density;
    if (planted("FAKE_TUNE_FAST", request)) us /= 4;
    answer->round = (struct tune_round){.us = us, .cold_us = us * 1.05, .warm_us = us * 0.95, .sm_mhz = 1500};
}

static void answer_hello(struct tune_wire_answer *answer)
{
    answer->gpu = (struct tamisi_gpu_identity){.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13};
    snprintf(answer->gpu.name, sizeof answer->gpu.name, "GPU of fiction");
    snprintf(answer->arch, sizeof answer->arch, "sm_90a");
    answer->devices = 2;
    if (!getenv("FAKE_TUNE_NONE")) return;
    answer->verdict = TUNE_BROKEN;
    answer->status = TAMIS_ENODEVICE;
    snprintf(answer->why, sizeof answer->why, "there is no GPU");
}

static void answer_check(const struct tune_wire_request *request, struct tune_wire_answer *answer)
{
    if (planted("FAKE_TUNE_FAULT", request)) raise(SIGSEGV);
    if (planted("FAKE_TUNE_HANG", request)) pause();
    if (!planted("FAKE_TUNE_WRONG", request)) return;
    answer->verdict = TUNE_WRONG;
    snprintf(answer->why, sizeof answer->why, "the error is 0.5, at most 0.004 is right");
}

int main(void)
{
    struct tune_wire_request request;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGSEGV, SIG_DFL);
    while (tune_wire_read(STDIN_FILENO, &request, sizeof request, -1)) {
        struct tune_wire_answer answer;
        memset(&answer, 0, sizeof answer);
        answer.mark = TUNE_WIRE_MARK;
        if (request.op != TUNE_WIRE_HELLO) note(&request);
        if (request.op == TUNE_WIRE_HELLO) answer_hello(&answer);
        else if (request.op == TUNE_WIRE_CHECK) answer_check(&request, &answer);
        else if (planted("FAKE_TUNE_LATE", &request)) raise(SIGKILL);
        else answer_time(&request, &answer);
        rest();
        if (!tune_wire_write(STDOUT_FILENO, &answer, sizeof answer)) return 1;
    }
    return 0;
}
