/*
 * tune_fiction.c: see tune_fiction.h.
 */
#include "tune_fiction.h"

#include "error.h"

#include <stdio.h>
#include <string.h>

struct fiction fiction;
struct fiction_tuning tuning;

static size_t place_of(const struct tamisi_variant *variant) { return (size_t)(variant - tuning.variants); }

static double random_part(void)
{
    fiction.random = fiction.random * 1664525u + 1013904223u;
    return (double)(fiction.random >> 8) / (1 << 24) * 2 - 1;
}

static enum tune_verdict compile(void *payload, const struct tamisi_variant *variant, struct tamisi_resource *resources,
                                 int *count, char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload;
    resources[0] = (struct tamisi_resource){.symbol = "kernel", .spill_stores = fiction.spills[i]};
    *count = 1;
    if (fiction.compiles[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "kernel.cu:1: no");
    return fiction.compiles[i];
}

static enum tune_verdict check(void *payload, const struct tune_task *of, const struct tamisi_variant *variant,
                               char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload;
    ck_assert_ptr_eq(of, &tuning.task);
    fiction.checked[i]++;
    if (fiction.checks[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "error 0.5");
    if (fiction.die_at > 0 && --fiction.die_at == 0) { /* as if killed: nothing more is written */
        tamisi_fail(TAMIS_ECUDA, "killed");
        return TUNE_BROKEN;
    }
    return fiction.checks[i];
}

static enum tune_verdict time_round(void *payload, const struct tune_task *of, const struct tamisi_variant *variant,
                                    struct tune_round *out, char why[TUNE_WHY])
{
    const size_t i = place_of(variant);
    (void)payload, (void)of;
    ck_assert_int_gt(fiction.checked[i], 0); /* numbers first */
    fiction.timed[i]++;
    fiction.rounds++;
    if (fiction.wave > 0 && random_part() > 0.9) fiction.slow = !fiction.slow;
    const double slow = fiction.slow ? 1 + fiction.wave : 1;
    const double us = fiction.us[i] * (1 + fiction.noise * random_part()) * (1 + fiction.drift * fiction.rounds) * slow;
    *out = (struct tune_round){.us = us, .cold_us = us * 1.1, .warm_us = us * 0.9, .sm_mhz = 1980};
    if (fiction.throttled[i] > 0) {
        fiction.throttled[i]--;
        out->throttled = true;
        out->us *= 3;
    }
    if (fiction.times[i] != TUNE_RIGHT) snprintf(why, TUNE_WHY, "no answer");
    return fiction.times[i];
}

static bool stop(void *payload)
{
    (void)payload;
    return fiction.stop_after > 0 && fiction.rounds >= fiction.stop_after;
}

static bool find_row(void *payload, const struct tamisi_timing *wanted, struct tamisi_timing *out)
{
    (void)payload;
    for (size_t i = 0; i < tuning.row_count; i++)
        if (tamisi_timing_same_key(&tuning.rows[i], wanted)) {
            *out = tuning.rows[i];
            return true;
        }
    return false;
}

static bool has_run_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    for (size_t i = 0; i < tuning.row_count; i++)
        if ((tuning.rows[i].state == TAMISI_TIMED || tuning.rows[i].state == TAMISI_STOPPED) &&
            tamisi_hash_equal(&tuning.rows[i].source, &wanted->source))
            return true;
    return false;
}

static double behind_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    return tune_behind(tuning.rows, tuning.row_count, wanted);
}

static bool is_bad_row(void *payload, const struct tamisi_timing *wanted)
{
    (void)payload;
    for (size_t i = 0; i < tuning.row_count; i++)
        if (tuning.rows[i].state >= TAMISI_WRONG && tamisi_hash_equal(&tuning.rows[i].source, &wanted->source)) return true;
    return false;
}

static void put_row(const struct tamisi_timing *row)
{
    for (size_t i = 0; i < tuning.row_count; i++)
        if (tamisi_timing_same_key(&tuning.rows[i], row)) {
            if (tamisi_timing_supersedes(row, &tuning.rows[i])) tuning.rows[i] = *row;
            return;
        }
    tuning.rows[tuning.row_count++] = *row;
}

static tamis_status begin_row(void *payload, const struct tamisi_timing *started)
{
    (void)payload;
    tuning.begun++;
    put_row(started);
    return TAMIS_OK;
}

static tamis_status end_row(void *payload, const struct tamisi_timing *started)
{
    struct tamisi_timing key = *started;
    (void)payload;
    key.state = TAMISI_STARTED;
    for (size_t i = 0; i < tuning.row_count; i++)
        if (tamisi_timing_same_key(&tuning.rows[i], &key)) tuning.rows[i] = tuning.rows[--tuning.row_count];
    return TAMIS_OK;
}

static tamis_status finish_rows(void *payload, const struct tamisi_timing *timings, size_t count)
{
    tuning.transactions++;
    for (size_t i = 0; i < count; i++) {
        put_row(&timings[i]);
        end_row(payload, &timings[i]);
    }
    return TAMIS_OK;
}

static const struct tune_device device = {.compile = compile,
                                          .check = check,
                                          .time = time_round,
                                          .stop = stop,
                                          .gpu = {.cc = 90, .sm_count = 132, .l2_bytes = 50 << 20, .driver_major = 13}};
static const struct tune_journal journal = {.find = find_row,
                                            .has_run = has_run_row,
                                            .behind = behind_row,
                                            .is_bad = is_bad_row,
                                            .begin = begin_row,
                                            .end = end_row,
                                            .finish = finish_rows};

void fiction_set(int a, int b)
{
    memset(&fiction, 0, sizeof fiction);
    tuning.row_count = tuning.transactions = tuning.begun = 0;
    tuning.task = (struct tune_task){.family = "attend",
                                     .problem = TAMIS_PROBLEM_INIT,
                                     .bucket = {.head_dim = 128, .q_heads = 32, .kv_heads = 8, .batch = 1, .seq_len = 8192,
                                                .kept = 8192, .dense = true},
                                     .candidates = tuning.variants,
                                     .count = (size_t)(a * b)};
    for (int i = 0; i < a * b; i++) {
        struct tamisi_variant *variant = &tuning.variants[i];
        memset(variant, 0, sizeof *variant);
        snprintf(variant->family, sizeof variant->family, "attend");
        snprintf(variant->name, sizeof variant->name, "attend_%d", i);
        snprintf(variant->arch, sizeof variant->arch, "sm_90a");
        snprintf(variant->params, sizeof variant->params, "block_m=%d stages=%d", 16 * (i / b + 1), i % b + 1);
        variant->rank = i;
        variant->source = tamisi_hash_bytes(&i, sizeof i);
        fiction.us[i] = 100 + i;
    }
    tuning.options = (struct tune_options){.rigor = TAMISI_NORMAL, .when = 1700000000, .boot = "boot-1"};
}

void fiction_run(void)
{
    memset(fiction.timed, 0, sizeof fiction.timed);
    memset(fiction.checked, 0, sizeof fiction.checked);
    fiction.rounds = 0;
    tuning.options.when++;
    ck_assert_int_eq(tune_run(&tuning.outcome, &tuning.task, &tuning.options, &device, &journal), TAMIS_OK);
}

const struct tamisi_timing *fiction_row(size_t i)
{
    for (size_t r = 0; r < tuning.row_count; r++) {
        const struct tamisi_timing *row = &tuning.rows[r];
        if (tamisi_hash_equal(&row->source, &tuning.variants[i].source) && row->state != TAMISI_STARTED) return row;
    }
    return NULL;
}

void fiction_expect(size_t i, enum tamisi_timing_state state)
{
    const struct tamisi_timing *row = fiction_row(i);
    ck_assert_msg(row && row->state == state, "candidate %zu is %s, not %s", i,
                  row ? tamisi_timing_state_name(row->state) : "without a row", tamisi_timing_state_name(state));
}

void fiction_kill_at(int check)
{
    fiction.die_at = check;
    ck_assert_int_eq(tune_run(&tuning.outcome, &tuning.task, &tuning.options, &device, &journal), TAMIS_ECUDA);
    fiction.die_at = 0;
}
