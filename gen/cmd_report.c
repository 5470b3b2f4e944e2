/*
 * cmd_report.c: `tamis report`: what tuning has left in a store, as one page of HTML that needs nothing beside itself.
 */
#define _GNU_SOURCE
#include "cmd.h"
#include "error.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>

/* Architectures that a spec has variants for, in the order of names. */
struct archs {
    char names[8][16];
    int count;
};

static tamis_status find_archs(struct archs *out, tamis_store *store, const char *spec)
{
    const struct tamisi_variant_query query = {.spec = spec, .dtype = -1, .head_dim = -1};
    struct tamisi_variant *variants = NULL;
    size_t count = 0;
    out->count = 0;
    TAMIS_TRY(tamisi_store_find_variants(&variants, &count, store, &query));
    for (size_t i = 0; i < count; i++) {
        int at = 0;
        while (at < out->count && strcmp(out->names[at], variants[i].arch) != 0) at++;
        if (at == out->count && at < (int)(sizeof out->names / sizeof *out->names))
            memcpy(out->names[out->count++], variants[i].arch, sizeof out->names[0]);
    }
    free(variants);
    return TAMIS_OK;
}

/* The section of a GPU and dtype, where there is something to tell; `sections` counts them. */
static tamis_status write_section(struct tamisi_buf *page, tamis_store *store, const char *spec, const char *arch,
                                  tamis_dtype dtype, const struct tamisi_gpu_identity *gpu, int *sections)
{
    struct report report;
    TAMIS_TRY(report_make(&report, store, spec, arch, dtype, gpu));
    if (report_has_dtype(&report)) {
        report_page_section(page, &report, store);
        ++*sections;
    }
    report_free(&report);
    return TAMIS_OK;
}

static tamis_status write_arch(struct tamisi_buf *page, tamis_store *store, const char *spec, const char *arch, int *sections)
{
    struct tamisi_gpu_identity *gpus;
    size_t count;
    TAMIS_TRY(report_gpus(&gpus, &count, store, spec, arch));
    tamis_status status = TAMIS_OK;
    for (size_t i = 0; i < count && status == TAMIS_OK; i++)
        for (int dtype = TAMIS_BF16; dtype <= TAMIS_FP16 && status == TAMIS_OK; dtype++)
            status = write_section(page, store, spec, arch, (tamis_dtype)dtype, &gpus[i], sections);
    free(gpus);
    return status;
}

static tamis_status write_page(struct tamisi_buf *page, tamis_store *store, const char *wanted)
{
    struct tamisi_spec_row row;
    struct archs archs;
    int sections = 0;
    TAMIS_TRY(tamisi_store_get_spec(&row, store, wanted));
    report_page_begin(page, tamisi_store_path(store), row.name);
    tamis_status status = find_archs(&archs, store, row.name);
    for (int i = 0; i < archs.count && status == TAMIS_OK; i++)
        status = write_arch(page, store, row.name, archs.names[i], &sections);
    if (status == TAMIS_OK && sections == 0)
        status = tamisi_fail(TAMIS_ENOTFOUND, "%s: %s was not tuned: run tamis tune", tamisi_store_path(store), row.name);
    report_page_end(page);
    tamisi_spec_row_free(&row);
    if (status == TAMIS_OK && page->failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory for the page");
    return status;
}

static int run(struct cli *cli)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_READ, cli_log, cli};
    const char *path = cli_value(cli, "output");
    struct tamisi_buf page = TAMISI_BUF_INIT;
    tamis_store *store = NULL;
    struct json json;
    if (!path) return cli_usage(cli, "-o FILE is missing");
    tamis_status status = tamis_store_open(&store, cli->operands[0], &options);
    if (status == TAMIS_OK) status = write_page(&page, store, cli_value(cli, "spec"));
    int code = status == TAMIS_OK ? cli_write_file(cli, path, &page) : cli_fail(cli, status);
    if (code == CLI_OK && cli->json) {
        cli_json_begin(cli, &json, "report");
        json_string(&json, "output", path);
        json_int(&json, "bytes", (long long)page.size);
        cli_json_end(cli, &json);
    }
    tamisi_buf_free(&page);
    tamis_store_free(store);
    return code;
}

static const struct cli_option options_table[] = {{"output", 'o', "FILE", "the page to write"},
                                                  {"spec", 0, "NAME", "this spec of a store of several"},
                                                  {NULL, 0, NULL, NULL}};

const struct cli_command cmd_report = {
    .name = "report",
    .operands = "STORE -o FILE [option...]",
    .operand_min = 1,
    .operand_max = 1,
    .summary = "write a page on what tuning has found",
    .description =
        "Write one page of HTML with what 'tamis tune' has left in STORE, for each GPU and dtype: time and speed over lengths, "
        "dense and by each ratio, where a call's time goes, each candidate beside the best, what plans take and what resources "
        "that has. The page needs no network and no other file.",
    .options = options_table,
    .exits = NULL,
    .examples = "tamis report llama.tamis -o llama.html\n",
    .run = run};
