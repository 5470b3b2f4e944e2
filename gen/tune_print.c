/*
 * tune_print.c: see tune_print.h.
 */
#include "tune_print.h"

#include "plan.h"
#include "spec.h"

static bool attends_to_lists(const struct tune_task *task)
{
    return task->lists.pattern.kind == TAMIS_PATTERN_HOST_BLOCKS;
}

static bool makes_lists(const struct tune_task *task)
{
    return task->lists.pattern.kind != TAMIS_PATTERN_NONE && !attends_to_lists(task);
}

/* ---- a table */

void tune_print_begin(struct cli_table *table)
{
    static const char *const heads[] = {"FAMILY", "L",     "KEPT",    "US",  "DEFAULT US",
                                        "GAIN",   "TIMED", "REFUSED", "BAD", "VARIANT"};
    cli_table_init(table, heads, (int)(sizeof heads / sizeof *heads), 0x1feu);
}

static void add_family(struct cli_table *table, const struct tune_task *task)
{
    if (attends_to_lists(task))
        cli_table_add(table, "%s, %g %%", task->family, 100 * task->lists.density);
    else if (makes_lists(task))
        cli_table_add(table, "%s, %s", task->family, tamisi_pattern_name(task->lists.pattern.kind));
    else
        cli_table_add(table, "%s%s", task->family, task->bucket.dense ? ", dense" : "");
}

/* "-" where it is unknown. */
static void add_us(struct cli_table *table, double us)
{
    if (us > 0) cli_table_add(table, "%.1f", us);
    else cli_table_add(table, "-");
}

void tune_print_row(struct cli_table *table, const struct tune_task *task, const struct tune_outcome *outcome)
{
    const bool known = outcome->default_us > 0 && outcome->chosen_us > 0;
    add_family(table, task);
    cli_table_add(table, "%lld", (long long)task->bucket.seq_len);
    if (task->bucket.kept > 0) cli_table_add(table, "%lld", (long long)task->bucket.kept);
    else cli_table_add(table, "-");
    add_us(table, outcome->chosen_us);
    add_us(table, outcome->default_us);
    if (known) cli_table_add(table, "%.3f", outcome->default_us / outcome->chosen_us);
    else cli_table_add(table, "-");
    cli_table_add(table, "%zu", outcome->timed);
    cli_table_add(table, "%zu", outcome->refused);
    cli_table_add(table, "%zu", outcome->bad);
    cli_table_add(table, "%s", outcome->chosen ? outcome->chosen : "unknown");
}

/* ---- JSON */

void tune_print_json(struct cli *cli, const char *spec, const char *gpu, const struct tune_task *task,
                     const struct tune_outcome *outcome, double seconds)
{
    const struct tamisi_bucket *bucket = &task->bucket;
    struct json json;
    cli_json_begin(cli, &json, "tune_bucket");
    json_string(&json, "spec", spec);
    json_string(&json, "gpu", gpu);
    json_string(&json, "family", task->family);
    json_string(&json, "dtype", spec_dtype_name(task->problem.dtype));
    json_int(&json, "seq_len", bucket->seq_len);
    if (bucket->kept > 0) json_int(&json, "kept", bucket->kept);
    json_bool(&json, "dense", bucket->dense);
    if (attends_to_lists(task)) json_real(&json, "density", task->lists.density);
    if (makes_lists(task)) json_string(&json, "pattern", tamisi_pattern_name(task->lists.pattern.kind));
    json_string(&json, "variant", outcome->chosen);
    if (outcome->chosen_us > 0) json_real(&json, "us", outcome->chosen_us);
    if (outcome->default_us > 0) json_real(&json, "default_us", outcome->default_us);
    json_int(&json, "candidates", (long long)task->count);
    json_int(&json, "timed", (long long)outcome->timed);
    json_int(&json, "refused", (long long)outcome->refused);
    json_int(&json, "bad", (long long)outcome->bad);
    json_bool(&json, "known_before", outcome->nothing_to_do);
    json_bool(&json, "interrupted", outcome->interrupted);
    json_real(&json, "seconds", seconds);
    cli_json_end(cli, &json);
}
