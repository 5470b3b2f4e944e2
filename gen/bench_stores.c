/*
 * bench_stores.c: see bench_stores.h.
 */
#define _GNU_SOURCE
#include "bench_stores.h"

#include "data.h"
#include "error.h"
#include "gpu.h"
#include "space.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tamis_status open_store(struct bench_stores *stores, struct cli *cli, const char *path, tamis_store_mode mode)
{
    const tamis_store_options options = {sizeof options, mode, cli_log, cli};
    if (stores->count == BENCH_MAX_STORES)
        return tamisi_fail(TAMIS_EINVAL, "%s: more than %d stores and specs", path, BENCH_MAX_STORES);
    TAMIS_TRY(tamis_store_open(&stores->list[stores->count], path, &options));
    stores->count++;
    return TAMIS_OK;
}

/* ---- specs */

static tamis_status make_folder(struct bench_stores *stores)
{
    const char *base = getenv("TMPDIR");
    if (stores->folder[0]) return TAMIS_OK;
    const int bytes = snprintf(stores->folder, sizeof stores->folder, "%s/tamis-bench-XXXXXX", base && *base ? base : "/tmp");
    if (bytes < (int)sizeof stores->folder && mkdtemp(stores->folder)) return TAMIS_OK;
    stores->folder[0] = '\0';
    return tamisi_fail(TAMIS_EIO, "cannot make a temporary folder: %s", strerror(errno));
}

static void temporary_path(char out[PATH_MAX + 32], const struct bench_stores *stores, int at)
{
    snprintf(out, PATH_MAX + 32, "%s/%d.tamis", stores->folder, at);
}

/* The spec's sources in a store of its own; plans compile what they need of them. */
static tamis_status put_spec(struct bench_stores *stores, struct cli *cli, const struct spec *spec,
                             const struct space *space, const char *const *archs)
{
    const int at = stores->count;
    char path[PATH_MAX + 32];
    TAMIS_TRY(make_folder(stores));
    temporary_path(path, stores, at);
    TAMIS_TRY(open_store(stores, cli, path, TAMIS_STORE_CREATE));
    stores->temporary[at] = true;
    tamis_store *store = stores->list[at];
    TAMIS_TRY(tamisi_store_begin(store));
    const tamis_status status = space_put(store, spec, space, archs);
    if (status == TAMIS_OK) return tamisi_store_commit(store);
    tamisi_store_rollback(store);
    return status;
}

static int add_spec(struct bench_stores *stores, struct cli *cli, const char *operand, const char *arch)
{
    const char *const archs[] = {arch, NULL};
    struct data data;
    struct spec spec;
    struct space space = {0};
    char path[PATH_MAX + 80];
    tamis_status status = data_find(&data);
    if (status == TAMIS_OK) status = data_spec_path(path, &data, operand);
    if (status != TAMIS_OK) return cli_fail(cli, status);
    status = spec_read(&spec, path, data.specs_dir);
    if (status != TAMIS_OK) return cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    const struct space_options options = {data.templates_dir, data.abi_dir, archs, true};
    int code = CLI_OK;
    status = space_make(&space, &spec, &options);
    if (status != TAMIS_OK) code = cli_fail_as(cli, status == TAMIS_EINVAL ? CLI_SPEC : CLI_FAILED);
    if (status == TAMIS_OK && put_spec(stores, cli, &spec, &space, archs) != TAMIS_OK) code = cli_fail_as(cli, CLI_FAILED);
    space_free(&space);
    spec_free(&spec);
    return code;
}

/* ---- all */

static int open_operands(struct bench_stores *out, struct cli *cli)
{
    for (int i = 0; i < cli->operand_count; i++) {
        const char *operand = cli->operands[i];
        int code = CLI_OK;
        if (!data_is_store(operand))
            code = add_spec(out, cli, operand, out->arch);
        else if (open_store(out, cli, operand, TAMIS_STORE_WRITE) != TAMIS_OK)
            code = cli_fail_as(cli, CLI_FAILED);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

/* Insert where it belongs, unless it is there. */
static void insert(struct bench_list *list, long long value)
{
    int at = 0;
    while (at < list->count && list->values[at] < value) at++;
    if ((at < list->count && list->values[at] == value) || list->count == BENCH_MAX_LIST) return;
    memmove(list->values + at + 1, list->values + at, (size_t)(list->count - at) * sizeof *list->values);
    list->values[at] = value;
    list->count++;
}

static void find_head_dims(const struct bench_stores *stores, struct bench_list *out)
{
    const struct tamisi_variant_query query = {.family = "attend", .arch = stores->arch, .dtype = -1, .head_dim = -1};
    for (int i = 0; i < stores->count; i++) {
        struct tamisi_variant *variants;
        size_t count = 0;
        if (tamisi_store_find_variants(&variants, &count, stores->list[i], &query) != TAMIS_OK) continue;
        for (size_t v = 0; v < count; v++) insert(out, variants[v].head_dim);
        free(variants);
    }
}

int bench_stores_open(struct bench_stores *out, struct cli *cli, const struct device *device, struct bench_list *head_dims)
{
    *out = (struct bench_stores){.count = 0};
    if (device->ordinal == TAMIS_DEVICE_CPU) {
        if (cli->operand_count > 0) return cli_usage(cli, "\"%s\": the CPU takes no kernels", cli->operands[0]);
    } else {
        const struct tamisi_gpu *gpu = device->context->state;
        if (cli->operand_count == 0) return cli_usage(cli, "STORE or SPEC is missing: a GPU runs its kernels");
        out->arch = gpu->arch;
        out->gpu = gpu->name;
        const int code = open_operands(out, cli);
        if (code != CLI_OK) return code;
        if (head_dims->count == 0) find_head_dims(out, head_dims);
    }
    if (head_dims->count == 0) head_dims->values[head_dims->count++] = 128;
    return CLI_OK;
}

void bench_stores_close(struct bench_stores *stores)
{
    for (int i = 0; i < stores->count; i++) {
        char path[PATH_MAX + 32];
        tamis_store_free(stores->list[i]);
        temporary_path(path, stores, i);
        if (stores->temporary[i]) unlink(path);
    }
    if (stores->folder[0]) rmdir(stores->folder);
    stores->count = 0;
}

tamis_store *bench_stores_find(const struct bench_stores *stores, int head_dim, tamis_dtype dtype)
{
    const struct tamisi_variant_query query = {
        .family = "attend", .arch = stores->arch, .dtype = (int)dtype, .head_dim = head_dim};
    for (int i = 0; i < stores->count; i++) {
        struct tamisi_variant *variants;
        size_t count = 0;
        if (tamisi_store_find_variants(&variants, &count, stores->list[i], &query) != TAMIS_OK) continue;
        free(variants);
        if (count > 0) return stores->list[i];
    }
    return stores->count > 0 ? stores->list[0] : NULL;
}
