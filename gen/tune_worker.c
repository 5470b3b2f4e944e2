/*
 * tune_worker.c: see tune_worker.h.
 */
#define _GNU_SOURCE
#include "tune_worker.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define START_SECONDS 120.0 /* a driver that wakes the GPU takes its time */
#define REAP_MS 10000       /* a process that waits for a hung GPU may not die at once */

extern char **environ;

/* ---- starting and ending */

/* Both pipes with ends that other processes do not inherit: a child that kept one open would hide the end of another. */
static bool open_pipes(int to[2], int from[2])
{
    if (pipe2(to, O_CLOEXEC) != 0) return false;
    if (pipe2(from, O_CLOEXEC) == 0) return true;
    close(to[0]);
    close(to[1]);
    return false;
}

/* In a process group of its own: Ctrl-C is the tuner's matter. */
static int spawn(pid_t *process, const char *program, char *const *arguments, int in, int out)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    const int failure = posix_spawn(process, program, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return failure;
}

static tamis_status start_process(struct tune_worker *worker)
{
    const char *other = getenv("TAMIS_TUNE_WORKER"), *program = other && *other ? other : "/proc/self/exe";
    char ordinal[16], *path = strdup(worker->store);
    int to[2], from[2];
    snprintf(ordinal, sizeof ordinal, "%d", worker->ordinal);
    char name[] = "tamis", command[] = "tune-worker", *arguments[] = {name, command, path, ordinal, NULL};
    if (!path || !open_pipes(to, from)) {
        free(path);
        return tamisi_fail(TAMIS_EIO, "cannot start the process that runs candidates: %s", strerror(errno));
    }
    const int failure = spawn(&worker->process, program, arguments, to[0], from[1]);
    free(path);
    close(to[0]);
    close(from[1]);
    worker->in = to[1];
    worker->out = from[0];
    if (failure == 0) return TAMIS_OK;
    close(worker->in);
    close(worker->out);
    worker->process = 0;
    return tamisi_fail(TAMIS_EIO, "cannot start %s: %s", program, strerror(failure));
}

/* Its exit status, waited for a while; -1: it does not end. */
static int reap(pid_t process)
{
    for (int waited = 0; waited < REAP_MS; waited++) {
        const struct timespec pause = {0, 1000000};
        int status = 0;
        if (waitpid(process, &status, WNOHANG) == process) return status;
        nanosleep(&pause, NULL);
    }
    return -1;
}

/* Closing its input asks it to end; a signal does not ask. The exit status as reap() gives it. */
static int end_process(struct tune_worker *worker, bool by_force)
{
    if (by_force) kill(worker->process, SIGKILL);
    close(worker->in);
    const int status = reap(worker->process);
    close(worker->out);
    worker->process = 0;
    return status;
}

void tune_worker_stop(struct tune_worker *worker)
{
    if (worker->process) end_process(worker, false);
}

/* ---- asking */

static void make_request(struct tune_wire_request *out, enum tune_wire_op op)
{
    memset(out, 0, sizeof *out); /* the gaps too: it is written as it lies there */
    out->mark = TUNE_WIRE_MARK;
    out->op = op;
}

/* What became of a process that does not answer. */
static enum tune_verdict judge_silence(struct tune_worker *worker, int reason, char why[TUNE_WHY])
{
    const bool late = reason == ETIMEDOUT;
    const int status = end_process(worker, late);
    if (status == -1)
        snprintf(why, TUNE_WHY, "no answer within %g s, and the process cannot be killed", worker->limit_s);
    else if (late)
        snprintf(why, TUNE_WHY, "no answer within %g s", worker->limit_s);
    else if (WIFSIGNALED(status))
        snprintf(why, TUNE_WHY, "the process that ran it ended by signal %d, %s", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(why, TUNE_WHY, "the process that ran it ended with code %d", WEXITSTATUS(status));
    return late ? TUNE_HANG : TUNE_FAULT;
}

static enum tune_verdict ask(struct tune_worker *worker, const struct tune_wire_request *request,
                             struct tune_wire_answer *answer, double seconds, char why[TUNE_WHY])
{
    errno = 0;
    if (!tune_wire_write(worker->in, request, sizeof *request) ||
        !tune_wire_read(worker->out, answer, sizeof *answer, seconds))
        return judge_silence(worker, errno, why);
    if (answer->mark != TUNE_WIRE_MARK) {
        end_process(worker, true);
        snprintf(why, TUNE_WHY, "the process that ran it answers with something else");
        return TUNE_FAULT;
    }
    answer->why[TUNE_WHY - 1] = '\0';
    memcpy(why, answer->why, TUNE_WHY);
    /* Whatever a context was broken by, it is of no use to others. */
    if (answer->verdict == TUNE_FAULT || answer->verdict == TUNE_BROKEN) end_process(worker, true);
    return answer->verdict;
}

tamis_status tune_worker_start(struct tune_worker *worker)
{
    struct tune_wire_request request;
    char why[TUNE_WHY] = "";
    TAMIS_TRY(start_process(worker));
    make_request(&request, TUNE_WIRE_HELLO);
    const enum tune_verdict verdict = ask(worker, &request, &worker->hello, START_SECONDS, why);
    if (verdict == TUNE_RIGHT) return TAMIS_OK;
    return tamisi_fail(verdict == TUNE_BROKEN ? worker->hello.status : TAMIS_ECUDA, "%s", why);
}

/* With a new process where the last one is gone. A GPU that is lost for good, or another one, ends the tuning. */
static enum tune_verdict ask_about(struct tune_worker *worker, enum tune_wire_op op, const struct tune_task *task,
                                   const struct tamisi_variant *variant, struct tune_wire_answer *answer, char why[TUNE_WHY])
{
    struct tune_wire_request request;
    const struct tamisi_gpu_identity gpu = worker->hello.gpu;
    if (!worker->process) {
        if (tune_worker_start(worker) != TAMIS_OK) return TUNE_BROKEN;
        if (!tamisi_gpu_equal(&gpu, &worker->hello.gpu)) {
            tamisi_fail(TAMIS_ECUDA, "the GPU is another one than before");
            return TUNE_BROKEN;
        }
    }
    make_request(&request, op);
    request.problem = task->problem;
    request.lists = task->lists;
    snprintf(request.family, sizeof request.family, "%s", task->family);
    memcpy(request.variant, variant->name, sizeof request.variant);
    const enum tune_verdict verdict = ask(worker, &request, answer, worker->limit_s, why);
    if (verdict == TUNE_BROKEN) tamisi_fail(answer->status, "%s", why);
    worker->numerics = verdict == TUNE_BROKEN && answer->numerics;
    return verdict;
}

enum tune_verdict tune_worker_check(struct tune_worker *worker, const struct tune_task *task,
                                    const struct tamisi_variant *variant, char why[TUNE_WHY])
{
    struct tune_wire_answer answer;
    return ask_about(worker, TUNE_WIRE_CHECK, task, variant, &answer, why);
}

enum tune_verdict tune_worker_time(struct tune_worker *worker, const struct tune_task *task,
                                   const struct tamisi_variant *variant, struct tune_round *out, char why[TUNE_WHY])
{
    struct tune_wire_answer answer;
    const enum tune_verdict verdict = ask_about(worker, TUNE_WIRE_TIME, task, variant, &answer, why);
    if (verdict == TUNE_RIGHT) *out = answer.round;
    return verdict;
}
