/*
 * export_c.c: a choice of a store as C sources: the launcher of templates/launcher under the prefix that is asked for,
 * what it includes of runtime/, the table of kernels, and a file a cubin. The same store gives the same bytes.
 */
#define _GNU_SOURCE
#include "export.h"

#include "data.h"
#include "error.h"
#include "pattern_args.h"
#include "plan.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct writer {
    struct cli *cli;
    const struct export_set *set;
    const char *prefix;
    char folder[PATH_MAX + 8]; /* made beside its place; "" when there is none */
    size_t *images;            /* a variant: the number of its cubin */
    long long image_count, bytes;
};

bool export_prefix_is_fine(const char *prefix)
{
    const size_t length = strspn(prefix, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return length > 0 && length <= 40 && prefix[length] == '\0' && islower((unsigned char)*prefix);
}

/* ---- files */

static int write_file(struct writer *writer, const char *name, struct tamisi_buf *text)
{
    char path[PATH_MAX + 128];
    if (text->failed) return cli_error(writer->cli, CLI_FAILED, "out of memory for %s", name);
    snprintf(path, sizeof path, "%s/%s", writer->folder, name);
    FILE *file = fopen(path, "wb");
    bool done = file && fwrite(text->data, 1, text->size, file) == text->size;
    if (file) done = fclose(file) == 0 && done;
    if (!done) return cli_error(writer->cli, CLI_FAILED, "cannot write %s: %s", path, strerror(errno));
    writer->bytes += (long long)text->size;
    return CLI_OK;
}

static int read_file(struct cli *cli, struct tamisi_buf *out, const char *path)
{
    char block[8192];
    size_t bytes;
    FILE *file = fopen(path, "rb");
    if (!file) return cli_error(cli, CLI_FAILED, "cannot read %s: %s", path, strerror(errno));
    while ((bytes = fread(block, 1, sizeof block, file)) > 0) tamisi_buf_append(out, block, bytes);
    const bool failed = ferror(file) != 0;
    fclose(file);
    return failed || out->failed || !out->data ? cli_error(cli, CLI_FAILED, "cannot read %s", path) : CLI_OK;
}

/* A file of the tool's own, under its new name and with its new prefix. */
static int copy_file(struct writer *writer, const char *dir, const char *file, const char *suffix)
{
    char path[2 * PATH_MAX], name[80];
    struct tamisi_buf text = TAMISI_BUF_INIT, renamed = TAMISI_BUF_INIT;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    snprintf(name, sizeof name, "%s%s", suffix ? writer->prefix : file, suffix ? suffix : "");
    int code = read_file(writer->cli, &text, path);
    if (code == CLI_OK) {
        export_rename(&renamed, text.data, writer->prefix);
        code = write_file(writer, name, suffix ? &renamed : &text);
    }
    tamisi_buf_free(&text);
    tamisi_buf_free(&renamed);
    return code;
}

/* What the launcher includes, as it is. */
static const char *const shared_files[] = {"kernel_args.h", "block_args.h", "map_args.h", "pattern_args.h",
                                           "pattern_stages.inc"};
#define SHARED_FILES (sizeof shared_files / sizeof *shared_files)

static int write_launcher(struct writer *writer)
{
    char dir[PATH_MAX + 64];
    struct data data;
    int code = CLI_OK;
    if (data_find(&data) != TAMIS_OK) return cli_fail_as(writer->cli, CLI_FAILED);
    snprintf(dir, sizeof dir, "%s/launcher", data.templates_dir);
    for (size_t i = 0; i < SHARED_FILES && code == CLI_OK; i++)
        code = copy_file(writer, data.abi_dir, shared_files[i], NULL);
    if (code == CLI_OK) code = copy_file(writer, dir, EXPORT_PREFIX ".h", ".h");
    if (code == CLI_OK) code = copy_file(writer, dir, EXPORT_PREFIX ".c", ".c");
    return code;
}

/* ---- cubins */

static void put_head(const struct writer *writer, struct tamisi_buf *out, const char *file, const char *what)
{
    tamisi_buf_puts(out, "/* SPDX-License-Identifier: Apache-2.0 */\n");
    tamisi_buf_printf(out, "/*\n * %s: %s.\n * Made by tamis export --c, tamis %s.\n */\n", file, what, tamis_version_string());
    tamisi_buf_printf(out, "#include \"%s.h\"\n\n", writer->prefix);
}

static int write_cubin(struct writer *writer, const struct tamisi_variant *variant)
{
    char symbol[80], file[sizeof symbol + 2], what[TAMISI_SYMBOL_SIZE + 160];
    struct tamisi_buf text = TAMISI_BUF_INIT;
    struct tamisi_cubin cubin = {0};
    if (export_get_cubin(&cubin, writer->set, variant) != TAMIS_OK) return cli_fail_as(writer->cli, CLI_COMPILE);
    snprintf(symbol, sizeof symbol, "%s_cubin_%03lld", writer->prefix, writer->image_count);
    snprintf(file, sizeof file, "%s.c", symbol);
    snprintf(what, sizeof what, "%s for %s,\n * %zu bytes, compiled by %s", variant->name, variant->arch, cubin.bytes,
             cubin.nvrtc);
    put_head(writer, &text, file, what);
    tamisi_buf_printf(&text, "extern const unsigned long long %s[];\n", symbol);
    export_words(&text, symbol, cubin.data, cubin.bytes);
    tamisi_cubin_free(&cubin);
    const int code = write_file(writer, file, &text);
    tamisi_buf_free(&text);
    writer->image_count++;
    return code;
}

/* Variants of several specs share a source, and with it the cubin. */
static bool find_same(struct writer *writer, size_t at)
{
    const struct tamisi_variant *variants = writer->set->variants;
    for (size_t i = 0; i < at; i++) {
        if (!tamisi_hash_equal(&variants[i].source, &variants[at].source) || strcmp(variants[i].arch, variants[at].arch) != 0)
            continue;
        writer->images[at] = writer->images[i];
        return true;
    }
    return false;
}

static int write_cubins(struct writer *writer)
{
    const struct export_set *set = writer->set;
    writer->images = calloc(set->variant_count, sizeof *writer->images);
    if (!writer->images) return cli_error(writer->cli, CLI_FAILED, "out of memory for %zu variants", set->variant_count);
    for (size_t i = 0; i < set->variant_count; i++) {
        if (cli_interrupted()) return cli_error(writer->cli, CLI_INTERRUPTED, "interrupted: nothing was written");
        if (find_same(writer, i)) continue;
        writer->images[i] = (size_t)writer->image_count;
        const int code = write_cubin(writer, &set->variants[i]);
        if (code != CLI_OK) return code;
    }
    return CLI_OK;
}

/* ---- the table */

static void put_entry(const struct writer *writer, struct tamisi_buf *out, const struct tamisi_variant *variant,
                      const struct tamisi_entry *entry, size_t image)
{
    const char *const texts[] = {variant->spec, variant->family, variant->name, variant->arch, entry->stage, entry->symbol};
    tamisi_buf_puts(out, "    {");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        export_literal(out, texts[i]);
        tamisi_buf_puts(out, i % 3 == 2 ? ",\n     " : ", ");
    }
    tamisi_buf_printf(out, "%d, %d, %d, %d, %d, %d, %d, %s_cubin_%03zu},\n", variant->dtype, variant->head_dim,
                      variant->rank, entry->threads, entry->shared_bytes, entry->block_m, entry->block_n, writer->prefix,
                      image);
}

/* As the launcher's struct has its members; those of other kinds are the published ones. */
static void put_pattern(struct tamisi_buf *out, const char *spec, const tamis_pattern *p)
{
    tamisi_buf_puts(out, "    {");
    export_literal(out, spec);
    tamisi_buf_printf(out, ", {%d, %lld, %lld, %d, %lld, %lld, %.17g, %.17g, %.17g, %lld, %lld, %d, %.17g, %lld, %.17g}},\n",
                      (int)p->kind, (long long)p->sliding.sink_tokens, (long long)p->sliding.window_tokens,
                      p->vertical_slash.last_queries, (long long)p->vertical_slash.vertical_lines,
                      (long long)p->vertical_slash.slash_lines, p->vertical_slash.coverage, p->flexprefill.gamma,
                      p->flexprefill.tau, (long long)p->flexprefill.min_tokens, (long long)p->flexprefill.max_tokens,
                      p->xattention.stride, p->xattention.threshold, (long long)p->topk_blocks.blocks, p->topk_blocks.ratio);
}

static int put_specs(const struct writer *writer, struct tamisi_buf *out)
{
    const struct export_set *set = writer->set;
    tamisi_buf_printf(out, "\nconst struct %s_spec %s_specs[] = {\n", writer->prefix, writer->prefix);
    for (size_t i = 0; i < set->spec_count; i++) {
        tamis_pattern pattern = TAMIS_PATTERN_INIT;
        const tamis_status status = tamis_store_pattern(&pattern, set->store, set->specs[i].name);
        if (status != TAMIS_OK) return cli_fail(writer->cli, status);
        if (pattern.kind != TAMIS_PATTERN_NONE) put_pattern(out, set->specs[i].name, &pattern);
    }
    tamisi_buf_puts(out, "    {NULL, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}};\n");
    return CLI_OK;
}

static int write_table(struct writer *writer)
{
    const struct export_set *set = writer->set;
    char file[80];
    int count = 0;
    struct tamisi_buf text = TAMISI_BUF_INIT;
    snprintf(file, sizeof file, "%s_table.c", writer->prefix);
    put_head(writer, &text, file, "what kernels there are");
    tamisi_buf_printf(&text, "#if TAMIS_KERNEL_ABI != %d || TAMIS_BLOCK_ABI != %d || TAMIS_MAP_ABI != %d || "
                             "TAMIS_PATTERN_ABI != %d\n",
                      TAMIS_KERNEL_ABI, TAMIS_BLOCK_ABI, TAMIS_MAP_ABI, TAMIS_PATTERN_ABI);
    tamisi_buf_puts(&text, "#error \"the headers of arguments are of another interface than the kernels\"\n#endif\n");
    tamisi_buf_puts(&text, "#if defined __BYTE_ORDER__ && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__\n"
                           "#error \"the cubins are words of a little-endian machine\"\n#endif\n\n");
    for (long long i = 0; i < writer->image_count; i++)
        tamisi_buf_printf(&text, "extern const unsigned long long %s_cubin_%03lld[];\n", writer->prefix, i);
    tamisi_buf_printf(&text, "\nconst struct %s_entry %s_table[] = {\n", writer->prefix, writer->prefix);
    for (size_t i = 0; i < set->variant_count; i++)
        for (int entry = 0; entry < set->variants[i].entry_count; entry++, count++)
            put_entry(writer, &text, &set->variants[i], &set->variants[i].entries[entry], writer->images[i]);
    tamisi_buf_printf(&text, "};\nconst int %s_count = %d;\n", writer->prefix, count);
    int code = put_specs(writer, &text);
    if (code == CLI_OK) code = write_file(writer, file, &text);
    tamisi_buf_free(&text);
    return code;
}

/* ---- the folder */

static int check_interface(struct cli *cli, const struct export_set *set)
{
    for (size_t i = 0; i < set->variant_count; i++) {
        const struct tamisi_variant *variant = &set->variants[i];
        const int abi = tamisi_family_abi(variant->family);
        if (variant->abi != abi)
            return cli_error(cli, CLI_FAILED,
                             "%s: %s is for another tamis (interface %d, this one has %d): run tamis gen again",
                             tamisi_store_path(set->store), variant->name, variant->abi, abi);
    }
    return CLI_OK;
}

static bool is_empty_folder(const char *dir)
{
    DIR *folder = opendir(dir);
    int entries = 0;
    if (!folder) return false;
    while (readdir(folder)) entries++;
    closedir(folder);
    return entries <= 2; /* itself and the one above */
}

static int make_folder(struct writer *writer, const char *dir)
{
    struct stat info;
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/') length--;
    if (length >= PATH_MAX) return cli_error(writer->cli, CLI_FAILED, "%s: the name is too long", dir);
    if (lstat(dir, &info) == 0 && !is_empty_folder(dir))
        return cli_error(writer->cli, CLI_FAILED, "%s: is there already: remove it, or name another folder", dir);
    snprintf(writer->folder, sizeof writer->folder, "%.*s.XXXXXX", (int)length, dir);
    if (!mkdtemp(writer->folder)) {
        writer->folder[0] = '\0';
        return cli_error(writer->cli, CLI_FAILED, "cannot make a folder beside %s: %s", dir, strerror(errno));
    }
    const mode_t mask = umask(0);
    umask(mask);
    if (chmod(writer->folder, 0777 & ~mask) == 0) return CLI_OK;
    return cli_error(writer->cli, CLI_FAILED, "%s: %s", writer->folder, strerror(errno));
}

static void remove_one(const struct writer *writer, const char *file)
{
    char path[PATH_MAX + 128];
    snprintf(path, sizeof path, "%s/%s", writer->folder, file);
    unlink(path);
}

/* Of a folder that did not become whole: exactly what may have been written. */
static void remove_folder(const struct writer *writer)
{
    static const char *const suffixes[] = {".h", ".c", "_table.c"};
    char file[80];
    if (!writer->folder[0]) return;
    for (size_t i = 0; i < SHARED_FILES; i++) remove_one(writer, shared_files[i]);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        snprintf(file, sizeof file, "%s%s", writer->prefix, suffixes[i]);
        remove_one(writer, file);
    }
    for (long long i = 0; i < writer->image_count; i++) {
        snprintf(file, sizeof file, "%s_cubin_%03lld.c", writer->prefix, i);
        remove_one(writer, file);
    }
    rmdir(writer->folder);
}

int export_c(struct cli *cli, const struct export_set *set, const char *dir, const char *prefix,
             struct export_counts *counts)
{
    struct writer writer = {.cli = cli, .set = set, .prefix = prefix};
    int code = check_interface(cli, set);
    if (code == CLI_OK) code = make_folder(&writer, dir);
    if (code == CLI_OK) code = write_launcher(&writer);
    if (code == CLI_OK) code = write_cubins(&writer);
    if (code == CLI_OK) code = write_table(&writer);
    if (code == CLI_OK && rename(writer.folder, dir) != 0)
        code = cli_error(cli, CLI_FAILED, "cannot put %s in its place: %s", dir, strerror(errno));
    if (code != CLI_OK) remove_folder(&writer);
    free(writer.images);
    counts->specs = (long long)set->spec_count;
    counts->variants = (long long)set->variant_count;
    counts->cubins = writer.image_count;
    counts->bytes = writer.bytes;
    return code;
}
