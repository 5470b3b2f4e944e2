/*
 * report.c: what the prefill prints of its runs: text, or one JSON object; and the drifts as a file for `tamis layers`.
 */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static double sum_stage(const struct report *report, const struct prefill_result *result, int stage)
{
    double sum = 0;
    for (int i = 0; i < report->model->layers; i++) sum += result->stages[i][stage];
    return sum;
}

/* The dense run with the other attention in place of ours. */
static double with_peer(const struct report *report)
{
    const struct prefill_result *dense = &report->results[0];
    return dense->milliseconds - sum_stage(report, dense, 1) + report->model->layers * report->peer_ms;
}

static double gib(size_t bytes) { return (double)bytes / (1 << 30); }

static const char *pattern_name(const struct report *report)
{
    static const char *const names[] = {[TAMIS_PATTERN_NONE] = "none",
                                        [TAMIS_PATTERN_SLIDING] = "sliding",
                                        [TAMIS_PATTERN_VERTICAL_SLASH] = "vertical_slash",
                                        [TAMIS_PATTERN_FLEXPREFILL] = "flexprefill",
                                        [TAMIS_PATTERN_XATTENTION] = "xattention",
                                        [TAMIS_PATTERN_TOPK_BLOCKS] = "topk_blocks"};
    return names[report->options->pattern.kind]; /* of a store, which has no others */
}

static void print_run(const struct report *report, const char *name, const struct prefill_result *result)
{
    printf("%-6s  %10.2f ms to the first token", name, result->milliseconds);
    for (int stage = 0; stage < STAGES; stage++)
        if (stage + 1 < STAGES || report->drift) printf(", %s %.2f", stage_names[stage], sum_stage(report, result, stage));
    printf("; token %d, logits %016llx\n", (int)result->token, (unsigned long long)result->logits_hash);
}

static void print_layers(const struct report *report)
{
    printf("\n%5s %7s", "layer", "sparse");
    for (int mode = 0; mode < 2; mode++)
        for (int stage = 0; report->ran[mode] && stage + 1 < STAGES; stage++)
            printf(" %6s %-11s", mode ? "sparse" : "dense", stage_names[stage]);
    puts(report->drift ? "  drift" : "");
    for (int i = 0; i < report->model->layers; i++) {
        printf("%5d %7s", i, report->options->sparse[i] ? "yes" : "-");
        for (int mode = 0; mode < 2; mode++)
            for (int stage = 0; report->ran[mode] && stage + 1 < STAGES; stage++)
                printf(" %15.3f ms", report->results[mode].stages[i][stage]);
        if (report->drift) printf("  %.6f", report->results[0].drift[i]);
        puts("");
    }
}

static void print_text(const struct report *report)
{
    const struct model *m = report->model;
    const struct prefill_result *dense = &report->results[0], *sparse = &report->results[1];
    printf("%d layers of %d, %d query and %d KV heads of %d, inner %d, vocabulary %d, %s; %lld tokens, on %s\n",
           m->layers, m->width,
           m->heads, m->kv_heads, m->head_dim, m->inner, m->vocabulary, m->dtype == TAMIS_BF16 ? "bf16" : "fp16",
           (long long)report->options->tokens, report->device);
    printf("memory: weights %.3f GiB, activations %.3f GiB, attention's workspace %.3f GiB", gib(report->weight_bytes),
           gib(report->activation_bytes), gib(report->workspace_bytes));
    if (report->total_bytes)
        printf("; of the device %.3f of %.3f GiB are in use", gib(report->used_bytes), gib(report->total_bytes));
    puts("");
    if (report->ran[0]) print_run(report, "dense", dense);
    if (report->ran[0] && report->peer_ms > 0)
        printf("peer    %10.2f ms to the first token, dense with attention of %.3f ms a layer\n", with_peer(report),
               report->peer_ms);
    if (report->ran[1]) print_run(report, "sparse", sparse);
    if (report->ran[1] && report->options->pattern.kind != TAMIS_PATTERN_NONE)
        printf("sparse: with the block pattern %s, of the spec, in all layers\n", pattern_name(report));
    if (report->ran[0] && report->ran[1])
        printf("sparse: attention %.2fx as fast over all layers, the first token %.2fx as soon\n",
               sum_stage(report, dense, 1) / sum_stage(report, sparse, 1), dense->milliseconds / sparse->milliseconds);
    print_layers(report);
}

static void json_run(const struct report *report, const char *name, const struct prefill_result *result)
{
    printf(",\"%s\":{\"milliseconds\":%.4f,\"token\":%d,\"logits_hash\":\"%016llx\"", name, result->milliseconds,
           (int)result->token,
           (unsigned long long)result->logits_hash);
    for (int stage = 0; stage < STAGES; stage++) {
        printf(",\"%s\":[", stage_names[stage]);
        for (int i = 0; i < report->model->layers; i++) printf("%s%.4f", i ? "," : "", result->stages[i][stage]);
        printf("]");
    }
    if (report->options->hash_attention) {
        printf(",\"attention_hash\":[");
        for (int i = 0; i < report->model->layers; i++)
            printf("%s\"%016llx\"", i ? "," : "", (unsigned long long)result->attention_hash[i]);
        printf("]");
    }
    printf("}");
}

static void print_json(const struct report *report)
{
    const struct model *m = report->model;
    bool first = true;
    printf("{\"schema\":1,\"type\":\"prefill\",\"device\":\"%s\",\"layers\":%d,\"width\":%d,\"q_heads\":%d,\"kv_heads\":%d,"
           "\"head_dim\":%d,\"inner\":%d,\"vocabulary\":%d,\"dtype\":\"%s\",\"tokens\":%lld,\"weight_bytes\":%zu,"
           "\"activation_bytes\":%zu,\"workspace_bytes\":%zu,\"device_used_bytes\":%zu,\"pattern\":\"%s\","
           "\"sparse_layers\":[",
           report->device, m->layers, m->width, m->heads, m->kv_heads, m->head_dim, m->inner, m->vocabulary,
           m->dtype == TAMIS_BF16 ? "bf16" : "fp16", (long long)report->options->tokens, report->weight_bytes,
           report->activation_bytes, report->workspace_bytes, report->used_bytes, pattern_name(report));
    for (int i = 0; i < m->layers; i++) {
        if (!report->options->sparse[i]) continue;
        printf("%s%d", first ? "" : ",", i);
        first = false;
    }
    printf("]");
    if (report->ran[0]) json_run(report, "dense", &report->results[0]);
    if (report->ran[1]) json_run(report, "sparse", &report->results[1]);
    if (report->ran[0] && report->peer_ms > 0)
        printf(",\"peer\":{\"milliseconds\":%.4f,\"attention_ms\":%.4f}", with_peer(report), report->peer_ms);
    if (report->drift) {
        printf(",\"drift\":[");
        for (int i = 0; i < m->layers; i++) printf("%s%.17g", i ? "," : "", report->results[0].drift[i]);
        printf("]");
    }
    puts("}");
}

void report_print(const struct report *report, bool json)
{
    if (json) print_json(report);
    else print_text(report);
    if (fflush(stdout) != 0 || ferror(stdout)) die("stdout: %s", strerror(errno));
}

void report_drift(const struct report *report, const char *path)
{
    FILE *file = fopen(path, "w");
    if (!file) die("%s: %s", path, strerror(errno));
    fprintf(file, "layer,drift\n");
    for (int i = 0; i < report->model->layers; i++) fprintf(file, "%d,%.17g\n", i, report->results[0].drift[i]);
    if (fclose(file) != 0) die("%s: %s", path, strerror(errno));
}
