/*
 * api_plan.c: the public functions that make, free and describe plans. Above plan.c, which does the sums, and the backends,
 * which load kernels.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

/* The caller's problem as this library knows it: members that its struct ends before are 0. */
static tamis_status read_problem(tamis_problem *out, const tamis_problem *given)
{
    TAMIS_TRY(tamisi_check_pointer(given, "problem"));
    TAMIS_TRY(tamisi_options_check(given, TAMISI_PROBLEM_LEAST_BYTES, sizeof *given, "problem", "TAMIS_PROBLEM_INIT"));
    memset(out, 0, sizeof *out);
    memcpy(out, given, given->struct_size < sizeof *out ? TAMISI_PROBLEM_LEAST_BYTES : sizeof *out);
    out->struct_size = sizeof *out;
    return TAMIS_OK;
}

static tamis_status check_arguments(const tamis_context *context, const tamis_store *store, const tamis_problem *problem)
{
    if (!store && context->device != TAMIS_DEVICE_CPU)
        return tamisi_fail(TAMIS_EINVAL, "store: is NULL, which the CPU backend alone can do without");
    return tamisi_problem_check(problem);
}

/* NULL: none. */
static tamis_status read_pattern(tamis_pattern *out, const tamis_pattern *given, const tamis_problem *problem)
{
    *out = (tamis_pattern)TAMIS_PATTERN_INIT;
    if (!given) return TAMIS_OK;
    TAMIS_TRY(tamisi_options_check(given, sizeof *given, sizeof *given, "options.pattern", "TAMIS_PATTERN_INIT"));
    TAMIS_TRY(tamisi_pattern_check(given, problem));
    *out = *given;
    out->struct_size = sizeof *out;
    return TAMIS_OK;
}

/* NULL: the defaults. */
static tamis_status read_options(tamis_plan_options *out, const tamis_plan_options *given)
{
    *out = (tamis_plan_options)TAMIS_PLAN_OPTIONS_INIT;
    if (!given) return TAMIS_OK;
    TAMIS_TRY(tamisi_options_check(given, TAMISI_PLAN_OPTIONS_LEAST_BYTES, sizeof *given, "options",
                                   "TAMIS_PLAN_OPTIONS_INIT"));
    if ((int)given->tuning < TAMIS_TUNING_USE || (int)given->tuning > TAMIS_TUNING_REQUIRE)
        return tamisi_fail(TAMIS_EINVAL, "options: tuning is %d: it must be a tamis_tuning", (int)given->tuning);
    if ((int)given->compiling < TAMIS_COMPILE_MISSING || (int)given->compiling > TAMIS_COMPILE_NEVER)
        return tamisi_fail(TAMIS_EINVAL, "options: compiling is %d: it must be a tamis_compiling", (int)given->compiling);
    memcpy(out, given, tamisi_plan_options_bytes(given));
    if (out->output_map != 0 && out->output_map != 1)
        return tamisi_fail(TAMIS_EINVAL, "options: output_map is %d: it must be 0 or 1", (int)out->output_map);
    out->struct_size = sizeof *out;
    return TAMIS_OK;
}

/* Of arguments that were checked. */
static tamis_status make_plan(tamis_plan **out, tamis_context *context, tamis_store *store, const tamis_problem *problem,
                              const tamis_pattern *pattern, const tamis_plan_options *options,
                              const struct tamisi_force *force)
{
    struct tamisi_facts facts;
    struct tamisi_workspace workspace;
    tamisi_facts_make(&facts, problem);
    TAMIS_TRY(tamisi_workspace_make(&workspace, problem, &facts));
    TAMIS_TRY(tamisi_workspace_add_blocks(&workspace, problem, &facts, pattern,
                                          context->backend->maker_bytes(context, problem, &facts, pattern)));

    tamis_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return tamisi_fail(TAMIS_ENOMEM, "out of memory for a plan");
    *plan = (tamis_plan){context, *problem, facts, workspace, NULL, *options, *force, *pattern};
    const tamis_status status = context->backend->plan_open(plan, store);
    plan->force = (struct tamisi_force){NULL, NULL};
    plan->options.pattern = NULL; /* the caller's; the plan has its own */
    if (status != TAMIS_OK) {
        free(plan);
        return status;
    }
    atomic_fetch_add(&context->counters.plans, 1);
    *out = plan;
    return TAMIS_OK;
}

tamis_status tamisi_plan_create_forced(tamis_plan **out, tamis_context *context, tamis_store *store,
                                       const tamis_problem *given, const tamis_plan_options *given_options,
                                       const struct tamisi_force *force)
{
    tamis_problem problem;
    tamis_plan_options options;
    tamis_pattern pattern;
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    *out = NULL;
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    TAMIS_TRY(read_problem(&problem, given));
    TAMIS_TRY(read_options(&options, given_options));
    TAMIS_TRY(check_arguments(context, store, &problem));
    TAMIS_TRY(read_pattern(&pattern, options.pattern, &problem));
    if (options.output_map && pattern.kind != TAMIS_PATTERN_NONE)
        return tamisi_fail(TAMIS_EUNSUPPORTED,
                           "options: output_map is 1 and pattern.kind is %s: attention on blocks applies no map",
                           tamisi_pattern_name(pattern.kind));
    return make_plan(out, context, store, &problem, &pattern, &options, force);
}

tamis_status tamis_plan_create_with(tamis_plan **out, tamis_context *context, tamis_store *store,
                                    const tamis_problem *problem, const tamis_plan_options *options)
{
    return tamisi_plan_create_forced(out, context, store, problem, options, &(struct tamisi_force){NULL, NULL});
}

tamis_status tamis_plan_create(tamis_plan **out, tamis_context *context, tamis_store *store, const tamis_problem *problem)
{
    return tamis_plan_create_with(out, context, store, problem, NULL);
}

tamis_status tamis_context_counters(tamis_counters *out, const tamis_context *context)
{
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(out, "out"));
    TAMIS_TRY(tamisi_check_pointer(context, "context"));
    TAMIS_TRY(tamisi_options_check(out, sizeof *out, out->struct_size, "out", "TAMIS_COUNTERS_INIT"));
    const struct tamisi_counters *counters = &context->counters;
    out->plans = atomic_load(&counters->plans);
    out->found = atomic_load(&counters->found);
    out->compiled = atomic_load(&counters->compiled);
    out->passed_over = atomic_load(&counters->passed_over);
    out->compile_ms = (double)atomic_load(&counters->compile_us) / 1000;
    return TAMIS_OK;
}

void tamis_plan_free(tamis_plan *plan)
{
    if (!plan) return;
    plan->context->backend->plan_close(plan);
    free(plan);
}

size_t tamis_plan_workspace_bytes(const tamis_plan *plan) { return plan ? plan->workspace.bytes : 0; }

int64_t tamis_plan_capacity(const tamis_plan *plan) { return plan ? plan->facts.capacity : 0; }

int32_t tamis_plan_index_heads(const tamis_plan *plan) { return plan ? plan->facts.index_heads : 0; }

int32_t tamis_plan_compact_heads(const tamis_plan *plan) { return plan ? plan->facts.compact_heads : 0; }

int32_t tamis_plan_block_count(const tamis_plan *plan)
{
    return plan && plan->pattern.kind != TAMIS_PATTERN_NONE ? tamisi_pattern_tiles(&plan->facts) : 0;
}

/* ------------------------------------------------------------------------------------------------------ description */

static void describe_problem(struct tamisi_buf *out, const tamis_problem *problem)
{
    tamisi_buf_printf(out, "problem: %s, batch %d, q_heads %d, kv_heads %d, head_dim %d, seq_len %lld%s\n",
                      problem->dtype == TAMIS_BF16 ? "bf16" : "fp16", problem->batch, problem->q_heads, problem->kv_heads,
                      problem->head_dim, (long long)problem->seq_len, problem->mask == TAMIS_FULL ? ", not causal" : "");
}

static void describe_policy(struct tamisi_buf *out, const tamis_selection *selection, const struct tamisi_facts *facts)
{
    static const char *const scopes[] = {"head", "kv_group", "layer"};
    tamisi_buf_puts(out, "policy: ");
    switch (selection->policy) {
    case TAMIS_COVERAGE: tamisi_buf_printf(out, "coverage %g", selection->coverage); break;
    case TAMIS_RATIO: tamisi_buf_printf(out, "ratio %g", selection->ratio); break;
    case TAMIS_COUNT: tamisi_buf_printf(out, "count %lld", (long long)selection->count); break;
    default: tamisi_buf_puts(out, "dense"); break;
    }
    if (selection->policy != TAMIS_DENSE)
        tamisi_buf_printf(out, ", scope %s, window %d, pool %d, min_tokens %lld", scopes[selection->scope],
                          selection->window, selection->pool, (long long)selection->min_tokens);
    if (facts->dense)
        tamisi_buf_puts(out, "; every token is kept\n");
    else
        tamisi_buf_printf(out, "; %s%lld tokens are kept\n", facts->fixed_keep < 0 ? "up to " : "", facts->capacity);
}

tamis_status tamis_plan_describe(const tamis_plan *plan, char *buffer, size_t size, size_t *needed)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    tamisi_error_clear();
    TAMIS_TRY(tamisi_check_pointer(plan, "plan"));
    if (size > 0) TAMIS_TRY(tamisi_check_pointer(buffer, "buffer"));

    describe_problem(&text, &plan->problem);
    describe_policy(&text, &plan->problem.selection, &plan->facts);
    if (plan->pattern.kind != TAMIS_PATTERN_NONE) {
        tamisi_buf_puts(&text, "pattern: ");
        tamisi_pattern_describe(&text, &plan->pattern);
        tamisi_buf_puts(&text, "\n");
    }
    if (plan->options.output_map) tamisi_buf_puts(&text, "output map: a matrix of each head on its kept rows\n");
    plan->context->backend->describe(plan, &text);
    tamisi_buf_printf(&text, "workspace: %zu bytes\n", plan->workspace.bytes);
    if (text.failed) {
        tamisi_buf_free(&text);
        return tamisi_fail(TAMIS_ENOMEM, "out of memory for a description");
    }
    if (size > 0) {
        const size_t kept = text.size < size ? text.size : size - 1;
        memcpy(buffer, text.data, kept);
        buffer[kept] = '\0';
    }
    if (needed) *needed = text.size + 1;
    tamisi_buf_free(&text);
    return TAMIS_OK;
}
