/*
 * tune_serve.c: the process that runs candidates: it reads a request, does what it says, answers, until there are no more.
 * What breaks it breaks no one else. See tune_wire.h.
 */
#define _GNU_SOURCE
#include "tune_wire.h"

#include "cli.h"
#include "cmd.h"
#include "error.h"
#include "gpu.h"
#include "tune_case.h"
#include "tune_trial.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SEED 1

/* Candidates that passed on the small problem: once is enough. */
struct passed {
    char family[16], variant[TAMISI_SYMBOL_SIZE];
    tamis_pattern_kind kind; /* of the lists that it was checked on, or made */
};

struct server {
    tamis_context *context;
    tamis_store *store;
    struct bench bench;
    struct tune_trial trial;
    struct tune_case cases[2][TAMIS_COUNT + 1]; /* on all blocks and on listed ones, by policy; made when needed */
    struct tune_maker_case maker_case;
    struct tune_lists maker_lists;           /* that it was made of */
    tamis_problem case_problem;              /* that they were made of */
    struct passed *passed;
    size_t passed_count;
    tamis_problem sound_problem;   /* at whose shape the defaults are right, */
    struct tune_lists sound_lists; /* and on these lists */
};

/* ---- opening */

static tamis_status open_all(struct server *server, const char *store, int ordinal)
{
    tamis_context_options device = TAMIS_CONTEXT_OPTIONS_INIT;
    tamis_store_options read = TAMIS_STORE_OPTIONS_INIT;
    device.device = ordinal;
    read.mode = TAMIS_STORE_READ;
    TAMIS_TRY(tamis_context_create(&server->context, &device));
    if (ordinal == TAMIS_DEVICE_CPU) return tamisi_fail(TAMIS_EINVAL, "the CPU has no kernels to tune");
    TAMIS_TRY(tamis_store_open(&server->store, store, &read));
    TAMIS_TRY(bench_begin(&server->bench, server->context, 1, SEED));
    server->bench.sparing = true;
    const struct tamisi_gpu *gpu = server->context->state;
    tune_trial_init(&server->trial, &server->bench, server->store, (size_t)gpu->l2_bytes);
    return TAMIS_OK;
}

static void free_cases(struct server *server)
{
    for (int policy = 0; policy <= TAMIS_COUNT; policy++) {
        tune_case_free(&server->cases[false][policy]);
        tune_case_free(&server->cases[true][policy]);
    }
    tune_maker_case_free(&server->maker_case);
}

static void close_all(struct server *server)
{
    free_cases(server);
    if (server->trial.bench) tune_trial_free(&server->trial);
    bench_end(&server->bench);
    tamis_store_free(server->store);
    tamis_context_free(server->context);
    free(server->passed);
}

/* ---- answers */

/* Whose failure is it? A kernel that does not load or run is the candidate's; no memory, or a store gone, is no one's. */
static enum tune_verdict judge(tamis_status status)
{
    switch (status) {
    case TAMIS_OK: return TUNE_RIGHT;
    case TAMIS_ECUDA: return TUNE_FAULT;
    case TAMIS_ECOMPILE:
    case TAMIS_EUNSUPPORTED:
    case TAMIS_ENOTFOUND:
    case TAMIS_ECORRUPT: return TUNE_REFUSED;
    default: return TUNE_BROKEN;
    }
}

static void set_verdict(struct tune_wire_answer *answer, tamis_status status)
{
    answer->verdict = judge(status);
    answer->status = status;
    if (status != TAMIS_OK) snprintf(answer->why, sizeof answer->why, "%.*s", TUNE_WHY - 1, tamis_last_error());
}

static void greet(const struct server *server, struct tune_wire_answer *answer)
{
    const struct tamisi_gpu *gpu = server->context->state;
    tamisi_gpu_identify(&answer->gpu, gpu);
    snprintf(answer->arch, sizeof answer->arch, "%s", gpu->arch);
    gpu->cuda->device_get_count(&answer->devices);
}

/* ---- the small problem */

static bool has_passed(const struct server *server, const struct tamisi_force *force, tamis_pattern_kind kind)
{
    for (size_t i = 0; i < server->passed_count; i++)
        if (strcmp(server->passed[i].family, force->family) == 0 && strcmp(server->passed[i].variant, force->variant) == 0 &&
            server->passed[i].kind == kind)
            return true;
    return false;
}

/* To remember is a matter of speed: where there is no memory, it is checked again. */
static void note_passed(struct server *server, const struct tamisi_force *force, tamis_pattern_kind kind)
{
    struct passed *grown = realloc(server->passed, (server->passed_count + 1) * sizeof *grown);
    if (!grown) return;
    server->passed = grown;
    struct passed *passed = &grown[server->passed_count++];
    passed->kind = kind;
    snprintf(passed->family, sizeof passed->family, "%s", force->family);
    snprintf(passed->variant, sizeof passed->variant, "%s", force->variant);
}

static bool same_model(const tamis_problem *a, const tamis_problem *b)
{
    return a->dtype == b->dtype && a->q_heads == b->q_heads && a->kv_heads == b->kv_heads && a->head_dim == b->head_dim &&
           a->scale == b->scale && a->selection.scope == b->selection.scope && a->selection.window == b->selection.window &&
           a->selection.pool == b->selection.pool;
}

static tamis_status check_policy(struct server *server, const tamis_problem *problem, const struct tamisi_force *force,
                                 tamis_policy policy, bool listed, char why[TUNE_WHY])
{
    struct tune_case *made = &server->cases[listed][policy];
    if (why[0]) return TAMIS_OK;
    if (!made->made) TAMIS_TRY(tune_case_make(made, problem, policy, listed));
    return tune_case_check(made, server->context, server->store, force, why);
}

/* The makers of one pattern: that of the spec. */
static tamis_status check_maker(struct server *server, const struct tune_wire_request *request,
                                const struct tamisi_force *force, char why[TUNE_WHY])
{
    struct tune_maker_case *made = &server->maker_case;
    if (made->made && memcmp(&server->maker_lists, &request->lists, sizeof request->lists) != 0) tune_maker_case_free(made);
    memcpy(&server->maker_lists, &request->lists, sizeof request->lists);
    if (!made->made) TAMIS_TRY(tune_maker_case_make(made, &request->problem, &request->lists.pattern));
    return tune_maker_case_check(made, server->context, server->store, force, why);
}

static tamis_status check_small(struct server *server, const struct tune_wire_request *request,
                                const struct tamisi_force *force, char why[TUNE_WHY])
{
    const tamis_problem *problem = &request->problem;
    const tamis_pattern_kind kind = request->lists.pattern.kind;
    const bool listed = kind != TAMIS_PATTERN_NONE, defaults = !*force->family;
    why[0] = '\0';
    if (!same_model(&server->case_problem, problem)) {
        free_cases(server);
        server->case_problem = *problem;
        server->passed_count = 0;
    }
    if (has_passed(server, force, kind)) return TAMIS_OK;
    if (listed && kind != TAMIS_PATTERN_HOST_BLOCKS) {
        TAMIS_TRY(check_maker(server, request, force, why));
        if (!why[0]) note_passed(server, force, kind);
        return TAMIS_OK;
    }
    if (defaults || listed || strcmp(force->family, "attend") == 0)
        TAMIS_TRY(check_policy(server, problem, force, TAMIS_DENSE, listed, why));
    TAMIS_TRY(check_policy(server, problem, force, TAMIS_RATIO, listed, why));
    if ((defaults && !listed) || strcmp(force->family, "select") == 0)
        TAMIS_TRY(check_policy(server, problem, force, TAMIS_COVERAGE, listed, why));
    if (!why[0]) note_passed(server, force, kind);
    return TAMIS_OK;
}

/* ---- requests */

static tamis_status check_all(struct server *server, const struct tune_wire_request *request,
                              const struct tamisi_force *force, char why[TUNE_WHY])
{
    TAMIS_TRY(check_small(server, request, force, why));
    if (why[0]) return TAMIS_OK;
    TAMIS_TRY(tune_trial_set(&server->trial, &request->problem, &request->lists));
    return tune_trial_check(&server->trial, force, why);
}

/* A candidate runs beside the defaults of the other families: were one of these wrong, it would be blamed for that. */
static bool defaults_are_right(struct server *server, const struct tune_wire_request *request,
                               struct tune_wire_answer *answer)
{
    const struct tamisi_force none = {"", ""};
    char why[TUNE_WHY] = "";
    if (memcmp(&server->sound_problem, &request->problem, sizeof request->problem) == 0 &&
        memcmp(&server->sound_lists, &request->lists, sizeof request->lists) == 0)
        return true;
    const tamis_status status = check_all(server, request, &none, why);
    if (status == TAMIS_OK && !why[0]) {
        memcpy(&server->sound_problem, &request->problem, sizeof request->problem); /* gaps too, as they are compared */
        memcpy(&server->sound_lists, &request->lists, sizeof request->lists);
        return true;
    }
    answer->verdict = TUNE_BROKEN;
    answer->numerics = status == TAMIS_OK;
    answer->status = status == TAMIS_OK ? TAMIS_ECUDA : status;
    snprintf(answer->why, sizeof answer->why, "the default kernels: %.130s", why[0] ? why : tamis_last_error());
    return false;
}

static void check(struct server *server, const struct tune_wire_request *request, const struct tamisi_force *force,
                  struct tune_wire_answer *answer)
{
    if (!defaults_are_right(server, request, answer)) return;
    const tamis_status status = check_all(server, request, force, answer->why);
    const bool wrong = status == TAMIS_OK && answer->why[0];
    set_verdict(answer, status);
    if (wrong) answer->verdict = TUNE_WRONG;
}

static void time_round(struct server *server, const struct tune_wire_request *request, const struct tamisi_force *force,
                       struct tune_wire_answer *answer)
{
    tamis_status status = tune_trial_set(&server->trial, &request->problem, &request->lists);
    if (status == TAMIS_OK) status = tune_trial_time(&server->trial, force, &answer->round);
    set_verdict(answer, status);
}

static void serve_one(struct server *server, tamis_status opened, struct tune_wire_request *request,
                      struct tune_wire_answer *answer)
{
    const struct tamisi_force force = {request->family, request->variant};
    request->family[sizeof request->family - 1] = '\0';
    request->variant[sizeof request->variant - 1] = '\0';
    if (opened != TAMIS_OK) {
        set_verdict(answer, opened);
        answer->verdict = TUNE_BROKEN;
    } else if (request->op == TUNE_WIRE_HELLO)
        greet(server, answer);
    else if (request->op == TUNE_WIRE_CHECK)
        check(server, request, &force, answer);
    else
        time_round(server, request, &force, answer);
}

int tune_serve(const char *store, int ordinal, int in, int out)
{
    struct server server = {.passed_count = 0};
    struct tune_wire_request request;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a tuner that is killed leaves no one behind on the GPU */
    const tamis_status opened = open_all(&server, store, ordinal);
    while (tune_wire_read(in, &request, sizeof request, -1) && request.mark == TUNE_WIRE_MARK) {
        struct tune_wire_answer answer;
        memset(&answer, 0, sizeof answer);
        answer.mark = TUNE_WIRE_MARK;
        serve_one(&server, opened, &request, &answer);
        if (!tune_wire_write(out, &answer, sizeof answer)) break;
        if (opened != TAMIS_OK) break;
    }
    close_all(&server);
    return CLI_OK;
}

/* ---- the command, which people do not call */

static int run_worker(struct cli *cli)
{
    const int out = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* answers and nothing else go out: a driver may have something to say */
    return tune_serve(cli->operands[0], (int)strtol(cli->operands[1], NULL, 10), STDIN_FILENO, out);
}

const struct cli_command cmd_tune_worker = {
    .name = "tune-worker",
    .operands = "STORE ORDINAL",
    .operand_min = 2,
    .operand_max = 2,
    .summary = "run candidates for 'tamis tune'",
    .description = "The process in which 'tamis tune' runs candidates: it reads requests and writes answers that are of no "
                   "use to people.",
    .examples = "",
    .run = run_worker};
