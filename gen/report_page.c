/*
 * report_page.c: the page: charts and tables of one GPU after the other, with their explanations. See report.h.
 */
#define _GNU_SOURCE
#include "report.h"

#include "bench.h"
#include "compile.h"
#include "plan.h"
#include "spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void report_page_begin(struct tamisi_buf *out, const char *store, const char *spec)
{
    tamisi_buf_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>tamis: ");
    report_escape(out, spec);
    tamisi_buf_puts(out, "</title>\n<style>\n"
                         "body { font-family: sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; "
                         "color: #222222; }\n"
                         "table { border-collapse: collapse; font-size: 85%; }\n"
                         "th, td { text-align: left; padding: 0.2em 0.8em 0.2em 0; border-bottom: 1px solid #dddddd; }\n"
                         "td.n, th.n { text-align: right; }\n"
                         "svg { display: block; margin: 1em 0; border: 1px solid #eeeeee; max-width: 100%; height: auto; }\n"
                         "p { max-width: 44em; line-height: 1.45; }\n"
                         "</style>\n</head>\n<body>\n<h1>");
    report_escape(out, spec);
    tamisi_buf_puts(out, "</h1>\n<p>What <code>tamis tune</code> has left in <code>");
    report_escape(out, store);
    tamisi_buf_puts(out, "</code>.</p>\n");
}

void report_page_end(struct tamisi_buf *out) { tamisi_buf_puts(out, "</body>\n</html>\n"); }

/* ---- times over lengths */

/* The part of the tokens before the window that is kept: the ratio that a bucket was made of. */
static double ratio_of(const struct tamisi_bucket *bucket)
{
    const int64_t before = bucket->seq_len - bucket->window;
    return before > 0 ? (double)(bucket->kept - bucket->window) / (double)before : 1;
}

/* "dense", "0.50 kept" */
static void name_series(char out[64], const struct tamisi_bucket *bucket)
{
    if (bucket->dense) snprintf(out, 64, "dense");
    else snprintf(out, 64, "%.2f kept", ratio_of(bucket));
}

/* What a bucket's problem multiplies, for the rows that attend: all pairs of a causal mask, twice. */
static double flops_of(const struct report *report, const struct tamisi_bucket *bucket)
{
    tamis_problem problem = report->problem;
    problem.batch = bucket->batch;
    problem.q_heads = bucket->q_heads;
    return bench_flops(&problem, bucket->kept);
}

static void write_lines(struct tamisi_buf *out, const struct report *report)
{
    struct report_chart times = {.title = "The operator in one call", .y_label = "ms", .log_y = true};
    struct report_chart rates = {.title = "Attention's products over the time of it all", .y_label = "TFLOP/s"};
    struct report_chart gains = {.title = "Faster than dense by", .y_label = "times"};
    for (size_t i = 0; i < report->bucket_count; i++) {
        const struct report_bucket *bucket = &report->buckets[i];
        const double tokens = (double)bucket->bucket.seq_len;
        char name[64];
        if (strcmp(bucket->family, "attend") != 0 || bucket->best_us <= 0) continue;
        const struct report_bucket *dense = report_find(report, "attend", bucket->bucket.seq_len, 0, true);
        name_series(name, &bucket->bucket);
        report_chart_add(&times, name, tokens, bucket->best_us / 1000);
        report_chart_add(&rates, name, tokens, flops_of(report, &bucket->bucket) / bucket->best_us / 1e6);
        if (dense && dense->best_us > 0) /* dense too, at 1: a series has one colour in all charts */
            report_chart_add(&gains, name, tokens, dense->best_us / bucket->best_us);
    }
    report_chart_write(out, &times);
    report_chart_write(out, &gains);
    report_chart_write(out, &rates);
}

/* ---- where the time goes */

static double default_of(const struct report_bucket *bucket)
{
    return !bucket ? 0 : bucket->default_us > 0 ? bucket->default_us : bucket->best_us;
}

static void write_stages(struct tamisi_buf *out, const struct report *report)
{
    static const char *const parts[] = {"score", "select", "compress", "attend", NULL};
    struct report_bars bars = {.title = "Where a call's time goes", .parts = parts};
    for (size_t i = 0; i < report->bucket_count && bars.bar_count < REPORT_POINTS; i++) {
        const struct report_bucket *run = &report->buckets[i];
        const struct tamisi_bucket *bucket = &run->bucket;
        if (strcmp(run->family, "attend") != 0 || bucket->dense || run->best_us <= 0) continue;
        const double score = default_of(report_find(report, "score", bucket->seq_len, 0, false));
        const double with_select = default_of(report_find(report, "select", bucket->seq_len, bucket->kept, false));
        const double compress = default_of(report_find(report, "compress", bucket->seq_len, bucket->kept, false));
        const double values[] = {score, fmax(with_select - score, 0), compress,
                                 fmax(run->best_us - fmax(with_select, score) - compress, 0)};
        snprintf(bars.bars[bars.bar_count].name, sizeof bars.bars[0].name, "%lld, %.2f kept", (long long)bucket->seq_len,
                 ratio_of(bucket));
        memcpy(bars.bars[bars.bar_count++].parts, values, sizeof values);
    }
    report_bars_write(out, &bars);
}

/* ---- tables */

static void write_choices(struct tamisi_buf *out, const struct report *report)
{
    tamisi_buf_puts(out, "<h3>What plans take</h3>\n<table>\n<tr><th>family<th class=\"n\">tokens<th class=\"n\">kept"
                         "<th class=\"n\">us<th class=\"n\">default, us<th class=\"n\">gain<th>variant</tr>\n");
    for (size_t i = 0; i < report->bucket_count; i++) {
        const struct report_bucket *bucket = &report->buckets[i];
        char lists[32];
        report_name_lists(lists, &bucket->bucket);
        tamisi_buf_printf(out, "<tr><td>%s%s%s<td class=\"n\">%lld<td class=\"n\">", bucket->family,
                          lists[0] ? ", " : bucket->bucket.dense ? ", dense" : "", lists, (long long)bucket->bucket.seq_len);
        if (bucket->bucket.kept > 0) tamisi_buf_printf(out, "%lld", (long long)bucket->bucket.kept);
        tamisi_buf_puts(out, "<td class=\"n\">");
        if (bucket->best_us > 0) tamisi_buf_printf(out, "%.1f", bucket->best_us);
        tamisi_buf_puts(out, "<td class=\"n\">");
        if (bucket->default_us > 0) tamisi_buf_printf(out, "%.1f", bucket->default_us);
        tamisi_buf_puts(out, "<td class=\"n\">");
        if (bucket->default_us > 0 && bucket->best_us > 0)
            tamisi_buf_printf(out, "%.3f", bucket->default_us / bucket->best_us);
        tamisi_buf_puts(out, "<td>");
        report_escape(out, bucket->chosen[0] ? bucket->chosen : "unknown");
        tamisi_buf_puts(out, "</tr>\n");
    }
    tamisi_buf_puts(out, "</table>\n");
}

static bool is_chosen(const struct report *report, const struct tamisi_variant *variant)
{
    for (size_t i = 0; i < report->bucket_count; i++)
        if (strcmp(report->buckets[i].chosen, variant->name) == 0) return true;
    return false;
}

static void write_resources(struct tamisi_buf *out, const struct report *report, tamis_store *store)
{
    tamisi_buf_puts(out, "<h3>Their resources</h3>\n<table>\n<tr><th>kernel<th class=\"n\">threads<th class=\"n\">registers"
                         "<th class=\"n\">shared bytes<th class=\"n\">spilled bytes</tr>\n");
    for (size_t i = 0; i < report->variant_count; i++) {
        const struct tamisi_variant *variant = &report->variants[i];
        char options[TAMISI_OPTIONS_SIZE];
        struct tamisi_cubin cubin = {.data = NULL};
        if (!is_chosen(report, variant)) continue;
        tamisi_compile_options(options, variant->arch);
        if (tamisi_store_get_cubin(&cubin, store, &variant->source, variant->arch, options, NULL) != TAMIS_OK)
            cubin.resource_count = 0;
        for (int e = 0; e < variant->entry_count; e++)
            for (int r = 0; r < cubin.resource_count; r++) {
                const struct tamisi_resource *resource = &cubin.resources[r];
                if (strcmp(resource->symbol, variant->entries[e].symbol) != 0) continue;
                tamisi_buf_puts(out, "<tr><td>");
                report_escape(out, resource->symbol);
                tamisi_buf_printf(out, "<td class=\"n\">%d<td class=\"n\">%d<td class=\"n\">%d<td class=\"n\">%d</tr>\n",
                                  variant->entries[e].threads, resource->registers,
                                  variant->entries[e].shared_bytes + resource->shared_bytes,
                                  resource->spill_stores + resource->spill_loads);
            }
        tamisi_cubin_free(&cubin);
    }
    tamisi_buf_puts(out, "</table>\n");
}

/* Those that are out, and why: each once. */
static void write_bad(struct tamisi_buf *out, const struct report *report)
{
    bool any = false;
    for (size_t i = 0; i < report->timing_count; i++) {
        const struct tamisi_timing *timing = &report->timings[i];
        bool seen = timing->state < TAMISI_REFUSED;
        for (size_t j = 0; j < i && !seen; j++)
            seen = report->timings[j].state == timing->state && strcmp(report->timings[j].variant, timing->variant) == 0;
        if (seen) continue;
        if (!any) tamisi_buf_puts(out, "<h3>Left out</h3>\n<table>\n<tr><th>variant<th>for<th>because</tr>\n");
        any = true;
        tamisi_buf_puts(out, "<tr><td>");
        report_escape(out, timing->variant);
        tamisi_buf_printf(out, "<td>%s<td>", tamisi_timing_state_name(timing->state));
        report_escape(out, timing->note);
        tamisi_buf_puts(out, "</tr>\n");
    }
    if (any) tamisi_buf_puts(out, "</table>\n");
}

/* ---- all of a GPU */

static void write_date(struct tamisi_buf *out, int64_t when)
{
    const time_t seconds = (time_t)when;
    struct tm parts;
    char text[32] = "";
    if (gmtime_r(&seconds, &parts)) strftime(text, sizeof text, "%Y-%m-%d", &parts);
    tamisi_buf_puts(out, text);
}

void report_page_section(struct tamisi_buf *out, const struct report *report, tamis_store *store)
{
    tamisi_buf_puts(out, "<h2>");
    report_escape(out, report->gpu.name);
    tamisi_buf_printf(out, "</h2>\n<p>Compute capability %d.%d, %d multiprocessors, %lld MiB of L2, driver for CUDA %d; "
                           "kernels for %s. %d query heads, %d KV heads, head dim %d, %s. Times are medians; each candidate "
                           "was checked before it was timed. Made ",
                      report->gpu.cc / 10, report->gpu.cc % 10, report->gpu.sm_count, (long long)report->gpu.l2_bytes >> 20,
                      report->gpu.driver_major, report->arch, report->problem.q_heads, report->problem.kv_heads,
                      report->problem.head_dim, spec_dtype_name(report->problem.dtype));
    write_date(out, report->first);
    tamisi_buf_puts(out, " to ");
    write_date(out, report->last);
    tamisi_buf_puts(out, ".</p>\n");
    write_lines(out, report);
    write_stages(out, report);
    tamisi_buf_puts(out, "<p>Score, select and compress with the default variants; attend is the rest of the one call, the "
                         "zeros of dropped rows included.</p>\n<p>Below, each dot is a candidate: the large one was chosen, "
                         "faint ones were stopped early, and those that are out were refused or wrong.</p>\n");
    for (int family = 0; family < REPORT_FAMILIES; family++) {
        static const char *const order[REPORT_FAMILIES] = {"attend",        "score",   "select",        "compress",
                                                           "decompress",    "attend_blocks", "pattern", "pattern_lines",
                                                           "pattern_heads", "pattern_xattn"};
        report_landscape_write(out, report, order[family]);
    }
    write_choices(out, report);
    write_resources(out, report, store);
    write_bad(out, report);
}
