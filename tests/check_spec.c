/*
 * check_spec.c: what a spec file becomes, every file under specs/, and the message for each file under tests/bad_specs,
 * whose first line says what it is.
 */
#define _POSIX_C_SOURCE 200809L

#include "check_alloc.h"
#include "folder.h"
#include "schema.h"
#include "spec.h"
#include "plan.h"
#include "spec_pattern.h"

#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *spec_suite(void);

#define HEAD "name: model\nattention: {q_heads: 8, kv_heads: 2, head_dim: 64}\nselection: {ratio: 0.5}\n"
#define TILE \
    "{family: select, params: {threads: 1024, pool_threads: 256, block_m: 128, budget_cluster: 1, cluster: 1, held: 32}}"
#define MINIMAL HEAD "tiles:\n- " TILE "\n"

static void set_up(void) { folder_make("spec"); }

static const char *source_path(const char *name)
{
    static char path[1024];
    const char *source = getenv("TAMIS_SOURCE_DIR");
    ck_assert_msg(source != NULL, "TAMIS_SOURCE_DIR is not set: run the tests by tests/run.sh or ctest");
    snprintf(path, sizeof path, "%s/%s", source, name);
    return path;
}

static void parse(struct spec *spec, const char *text)
{
    const tamis_status status = spec_parse(spec, "spec.yaml", text, strlen(text), NULL);
    ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error());
}

/* ---- good ones */

START_TEST(defaults)
{
    struct spec spec;
    parse(&spec, MINIMAL);
    ck_assert_str_eq(spec.name, "model");
    ck_assert_str_eq(spec.text, MINIMAL);
    ck_assert_int_eq(spec.layers, 0);
    ck_assert_str_eq(spec.sparse_layers, "");
    ck_assert_int_eq(spec.dtype_count, 1);
    ck_assert_int_eq(spec.dtypes[0], TAMIS_BF16);
    ck_assert_int_eq(spec.arch_count, 6);
    for (int i = 0; i < 6; i++) ck_assert_str_eq(spec.archs[i], spec_archs[i]);
    const tamis_problem *problem = &spec.problem;
    ck_assert_uint_eq(problem->struct_size, sizeof *problem);
    ck_assert_int_eq(problem->batch, 1);
    ck_assert_int_eq(problem->seq_len, 0);
    ck_assert_int_eq(problem->q_heads, 8);
    ck_assert_int_eq(problem->kv_heads, 2);
    ck_assert_int_eq(problem->head_dim, 64);
    ck_assert_double_eq(problem->scale, 0.0);
    const tamis_selection *selection = &problem->selection;
    ck_assert_int_eq(selection->policy, TAMIS_RATIO);
    ck_assert_double_eq(selection->ratio, 0.5);
    ck_assert_int_eq(selection->scope, TAMIS_SCOPE_HEAD);
    ck_assert_int_eq(selection->window, 128);
    ck_assert_int_eq(selection->pool, 7);
    ck_assert_int_eq(selection->min_tokens, 1024);
    ck_assert_int_eq(spec.ratio_count, 3);
    ck_assert_double_eq(spec.ratios[1], 0.75);
    ck_assert_int_eq(spec.output_map, 0);
    spec_free(&spec);
    ck_assert_ptr_null(spec.tiles);
}
END_TEST

START_TEST(every_key)
{
    struct spec spec;
    parse(&spec, "tiles:\n"
                 "- {family: attend, template: attend, archs: [sm_80, sm_90a], head_dims: [64, 128], dtypes: fp16,\n"
                 "   reason: 'ü',\n"
                 "   params: {warps: 4, block_m: [128, 64], stages: 2, q_in_registers: [0, 1], block_n: 16,\n"
                 "            rescale_threshold: 8, tile_barriers: 1, lazy_max: 0}}\n"
                 "archs: sm_100\noutput_map: true\n"
                 "selection: {count: 4096, scope: kv_group, window: 64, pool: 1, min_tokens: 0, ratios: [1, .25, 5e-1]}\n"
                 "attention: {scale: 1.25e-1, head_dim: 256, kv_heads: 4, q_heads: 12}\n"
                 "dtypes: [fp16, bf16]\nsparse_layers: [3, 4, 0-1, 6, 7, 8]\nlayers: 9\nname: a.b-c_1\n");
    ck_assert_str_eq(spec.name, "a.b-c_1");
    ck_assert_int_eq(spec.layers, 9);
    ck_assert_str_eq(spec.sparse_layers, "0,1,3,4,6-8");
    ck_assert_int_eq(spec.dtype_count, 2);
    ck_assert_int_eq(spec.problem.dtype, TAMIS_FP16);
    ck_assert_double_eq(spec.problem.scale, 0.125);
    ck_assert_int_eq(spec.problem.head_dim, 256);
    ck_assert_int_eq(spec.arch_count, 1);
    ck_assert_str_eq(spec.archs[0], "sm_100");
    ck_assert_int_eq(spec.output_map, 1);
    const tamis_selection *selection = &spec.problem.selection;
    ck_assert_int_eq(selection->policy, TAMIS_COUNT);
    ck_assert_int_eq(selection->count, 4096);
    ck_assert_int_eq(selection->scope, TAMIS_SCOPE_KV_GROUP);
    ck_assert_int_eq(selection->window, 64);
    ck_assert_int_eq(selection->pool, 1);
    ck_assert_int_eq(selection->min_tokens, 0);
    ck_assert_int_eq(spec.ratio_count, 3);
    ck_assert_double_eq(spec.ratios[2], 0.5);

    ck_assert_uint_eq(spec.tile_count, 1);
    const struct spec_tile *tile = &spec.tiles[0];
    ck_assert_str_eq(tile->family, "attend");
    ck_assert_str_eq(tile->template_name, "attend");
    ck_assert_str_eq(tile->archs[1], "sm_90a");
    ck_assert_int_eq(tile->arch_count, 2);
    ck_assert_int_eq(tile->head_dims[1], 128);
    ck_assert_int_eq(tile->head_dim_count, 2);
    ck_assert_int_eq(tile->dtypes[0], TAMIS_FP16);
    ck_assert_int_eq(tile->dtype_count, 1);
    ck_assert_str_eq(tile->reason, "ü");
    ck_assert_int_eq(tile->line, 2);
    ck_assert_str_eq(tile->file, "spec.yaml");
    static const char *const names[] = {"block_m", "block_n", "lazy_max", "q_in_registers", "rescale_threshold",
                                        "stages", "tile_barriers", "warps"};
    ck_assert_int_eq(tile->param_count, 8);
    for (int i = 0; i < 8; i++) ck_assert_str_eq(tile->params[i].name, names[i]);
    ck_assert_int_eq(tile->params[0].value_count, 2);
    ck_assert_int_eq(tile->params[0].values[1], 64);
    spec_free(&spec);
}
END_TEST

static const struct {
    const char *layers, *text, *normal;
} layer_texts[] = {{"32", "15-30", "15-30"},
                   {"40", "14,15,20-37", "14,15,20-37"},
                   {"40", "'20-37, 15, 14'", "14,15,20-37"},
                   {"40", "[14, 15, 20-30, 31-37]", "14,15,20-37"},
                   {"8", "[6-7]", "6,7"},
                   {"8", "0-7", "0-7"},
                   {"1024", "1023", "1023"}};

START_TEST(sparse_layers)
{
    struct spec spec;
    char text[512];
    snprintf(text, sizeof text, "%slayers: %s\nsparse_layers: %s\n", MINIMAL, layer_texts[_i].layers,
             layer_texts[_i].text);
    parse(&spec, text);
    ck_assert_str_eq(spec.sparse_layers, layer_texts[_i].normal);
    spec_free(&spec);
}
END_TEST

/* Of one kind, and the same parameters of it. */
static void assert_same_pattern(const tamis_pattern *a, const tamis_pattern *b)
{
    ck_assert_int_eq(a->kind, b->kind);
    for (int i = 0; i < schema_key_count; i++) {
        double left, right;
        if (!spec_pattern_member(&left, a, &schema_keys[i])) continue;
        ck_assert(spec_pattern_member(&right, b, &schema_keys[i]));
        ck_assert_msg(left == right, "%s is %g and %g", schema_keys[i].key, left, right);
    }
}

/* What a spec and a command line can say of patterns; absent parameters are as published, in the schema as in tamis.h. */
START_TEST(patterns)
{
    static const struct {
        const char *yaml, *option;
    } cases[] = {{"pattern: {kind: sliding, sink_tokens: 4, window_tokens: 1000}", "sliding,sink_tokens=4,window_tokens=1000"},
                 {"pattern: {kind: vertical_slash, coverage: .5, last_queries: 128}",
                  "vertical_slash,coverage=.5,last_queries=128"},
                 {"pattern: {kind: flexprefill, gamma: 0.9, min_tokens: 512}", "flexprefill,gamma=0.9,min_tokens=512"},
                 {"pattern: {kind: xattention, stride: 8}", "xattention,stride=8"},
                 {"pattern: {kind: topk_blocks, blocks: 12}", "topk_blocks,blocks=12"},
                 {"layers: 3", "none"}};
    for (int i = 0; i < (int)(sizeof cases / sizeof cases[0]); i++) {
        tamis_pattern of_spec, of_option, published = TAMIS_PATTERN_INIT;
        struct spec spec;
        char text[600], wrong[320] = "";
        snprintf(text, sizeof text, MINIMAL "%s\n", cases[i].yaml);
        parse(&spec, text);
        of_spec = spec.pattern;
        spec_free(&spec);
        ck_assert_msg(spec_pattern_read(&of_option, cases[i].option, wrong, sizeof wrong), "%s", wrong);
        assert_same_pattern(&of_spec, &of_option);
        ck_assert_int_eq(of_spec.kind, i < 5 ? TAMIS_PATTERN_SLIDING + i : TAMIS_PATTERN_NONE);
        published.kind = of_spec.kind;
        ck_assert(spec_pattern_read(&of_option, tamisi_pattern_name(published.kind), wrong, sizeof wrong));
        assert_same_pattern(&of_option, &published);
    }
}
END_TEST

START_TEST(coverage_is_a_policy)
{
    struct spec spec;
    parse(&spec, "name: m\nattention: {q_heads: 1, kv_heads: 1, head_dim: 96}\nselection: {coverage: 0.005}\n"
                 "tiles: [" TILE "]");
    ck_assert_int_eq(spec.problem.selection.policy, TAMIS_COVERAGE);
    ck_assert_double_eq(spec.problem.selection.coverage, 0.005);
    spec_free(&spec);
}
END_TEST

/* A byte order mark, DOS line ends and a directive are YAML too. */
START_TEST(other_editors)
{
    struct spec spec;
    parse(&spec, "\xef\xbb\xbf%YAML 1.1\r\n---\r\nname: m\r\nattention: {q_heads: 1, kv_heads: 1, head_dim: 96}\r\n"
                 "selection: {ratio: 1}\r\ntiles: [" TILE "]\r\n...\r\n");
    ck_assert_str_eq(spec.name, "m");
    spec_free(&spec);
}
END_TEST

/* A spec's own entries come first, wherever they stand; files are looked for beside the spec, then in the shared folder. */
START_TEST(tile_files)
{
    struct spec spec;
    folder_add("models");
    folder_add("models/near");
    folder_add("shared");
    folder_add("shared/near");
    folder_write("models/near/a.yaml", "tiles: [{family: compress, params: {block_m: 1, threads: 256}}]");
    folder_write("shared/near/a.yaml", "tiles: [{family: compress, params: {block_m: 2, threads: 256}}]");
    folder_write("shared/b.yaml", "\ntiles:\n- {family: compress, params: {block_m: 3, threads: 256}}\n");
    folder_write("models/m.yaml", HEAD "tiles:\n- b.yaml\n- near/a.yaml\n"
                                     "- {family: compress, params: {block_m: 4, threads: 256}}\n");
    const char *path = folder_file("models/m.yaml"), *shared = folder_file("shared");
    ck_assert_msg(spec_read(&spec, path, shared) == TAMIS_OK, "%s", tamis_last_error());
    static const long expected[] = {4, 3, 1};
    ck_assert_uint_eq(spec.tile_count, 3);
    for (size_t i = 0; i < 3; i++) ck_assert_int_eq(spec.tiles[i].params[0].values[0], expected[i]);
    ck_assert_int_eq(spec.tiles[1].line, 3);
    ck_assert_ptr_nonnull(strstr(spec.tiles[1].file, "/shared/b.yaml"));
    spec_free(&spec);

    ck_assert_int_eq(spec_read(&spec, path, NULL), TAMIS_EINVAL);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "/m.yaml:5:3: there is no tile file \"b.yaml\" beside the spec, "));
    ck_assert_int_eq(chdir(folder), 0);
    ck_assert_int_eq(chdir("models"), 0);
    ck_assert_msg(spec_read(&spec, "m.yaml", "../shared") == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_str_eq(spec.tiles[2].file, "near/a.yaml");
    spec_free(&spec);
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(names)
{
    tamis_dtype dtype = TAMIS_BF16;
    ck_assert(spec_dtype_from_name(&dtype, "fp16"));
    ck_assert_int_eq(dtype, TAMIS_FP16);
    ck_assert(!spec_dtype_from_name(&dtype, "fp8"));
    ck_assert_int_eq(dtype, TAMIS_FP16);
    ck_assert_str_eq(spec_dtype_name(TAMIS_BF16), "bf16");
    ck_assert_str_eq(spec_policy_name(TAMIS_DENSE), "dense");
    ck_assert_str_eq(spec_policy_name(TAMIS_COUNT), "count");
    ck_assert_str_eq(spec_scope_name(TAMIS_SCOPE_LAYER), "layer");
}
END_TEST

/* Sections in one piece, defaults that are values, parameters that fit and stand in order: what the reader relies on. */
START_TEST(schema_is_sound)
{
    for (int i = 1; i < schema_key_count; i++) ck_assert_int_ge(schema_keys[i].section, schema_keys[i - 1].section);
    for (int i = 0; i < schema_key_count; i++) {
        ck_assert_int_eq(schema_find(schema_keys[i].section, schema_keys[i].key), i);
        ck_assert(!schema_keys[i].otherwise || !(schema_keys[i].flags & SCHEMA_REQUIRED));
    }
    for (const struct schema_param *at = schema_params; at->name; at++) {
        ck_assert_ptr_nonnull(schema_template_find(at->template_name));
        ck_assert_uint_lt(strlen(at->name), sizeof((struct spec_param *)0)->name);
        if (at > schema_params && strcmp(at[-1].template_name, at->template_name) == 0)
            ck_assert_int_lt(strcmp(at[-1].name, at->name), 0);
    }
    for (const struct schema_template *at = schema_templates; at->name; at++) {
        int count = 0;
        for (const struct schema_param *param = schema_params; param->name; param++)
            count += strcmp(param->template_name, at->name) == 0;
        ck_assert_int_le(count, SPEC_MAX_PARAMS);
        ck_assert_uint_lt(strlen(at->name), sizeof((struct spec_tile *)0)->template_name);
    }
}
END_TEST

START_TEST(listing_has_everything)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    schema_list(&text);
    ck_assert(!text.failed);
    for (int i = 0; i < schema_key_count; i++) ck_assert_ptr_nonnull(strstr(text.data, schema_keys[i].meaning));
    for (const struct schema_param *at = schema_params; at->name; at++)
        ck_assert_ptr_nonnull(strstr(text.data, at->meaning));
    ck_assert_ptr_nonnull(strstr(text.data, "  pool           an odd integer from 1 to 63; 7 where not given\n"));
    tamisi_buf_free(&text);
}
END_TEST

/* ---- the models */

static const struct {
    const char *file;
    int layers, q_heads, kv_heads, head_dim;
    double coverage, scale;
    const char *sparse_layers;
} models[] = {{"gemma-2-9b", 42, 16, 8, 256, 0.005, 0.0625, ""},
              {"gpt-oss-20b", 24, 64, 8, 64, 0.005, 0, ""},
              {"llama-3.1-70b", 80, 64, 8, 128, 0.005, 0, ""},
              {"llama-3.1-8b", 32, 32, 8, 128, 0.005, 0, "15-30"},
              {"llama-3.1-8b-flexprefill", 32, 32, 8, 128, 0.02, 0, "15-30"},
              {"mistral-nemo-12b", 40, 32, 8, 128, 0.008, 0, "14,15,20-37"},
              {"phi-3-mini", 32, 32, 32, 96, 0.005, 0, ""},
              {"qwen3-8b", 36, 32, 8, 128, 0.005, 0, ""}};
#define MODEL_COUNT ((int)(sizeof models / sizeof models[0]))

START_TEST(model_files)
{
    struct spec spec;
    char name[64];
    snprintf(name, sizeof name, "specs/%s.yaml", models[_i].file);
    ck_assert_msg(spec_read(&spec, source_path(name), NULL) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_str_eq(spec.name, models[_i].file);
    ck_assert_int_eq(spec.layers, models[_i].layers);
    ck_assert_int_eq(spec.problem.q_heads, models[_i].q_heads);
    ck_assert_int_eq(spec.problem.kv_heads, models[_i].kv_heads);
    ck_assert_int_eq(spec.problem.head_dim, models[_i].head_dim);
    ck_assert_double_eq(spec.problem.selection.coverage, models[_i].coverage);
    ck_assert_double_eq(spec.problem.scale, models[_i].scale);
    ck_assert_str_eq(spec.sparse_layers, models[_i].sparse_layers);
    ck_assert_int_eq(spec.dtype_count, 2);
    ck_assert_int_eq(spec.arch_count, 6);
    ck_assert_int_eq(spec.problem.selection.policy, TAMIS_COVERAGE);
    for (size_t i = 0; i < spec.tile_count; i++)
        ck_assert_msg(spec.tiles[i].reason[0], "%s:%d has no reason", spec.tiles[i].file, spec.tiles[i].line);
    spec_free(&spec);
}
END_TEST

/* None is left out of the table above. */
START_TEST(model_files_are_known)
{
    int count = 0;
    DIR *directory = opendir(source_path("specs"));
    ck_assert_ptr_nonnull(directory);
    for (struct dirent *item; (item = readdir(directory));) count += strstr(item->d_name, ".yaml") != NULL;
    closedir(directory);
    ck_assert_int_eq(count, MODEL_COUNT);
}
END_TEST

/* ---- bad ones */

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static void check_bad_spec(const char *path)
{
    struct spec spec;
    char expected[512];
    FILE *file = fopen(path, "r");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(expected, sizeof expected, file));
    fclose(file);
    expected[strcspn(expected, "\n")] = '\0';
    ck_assert_msg(strncmp(expected, "# expect: ", 10) == 0 && strlen(expected) > 20, "%s has no expectation", path);
    ck_assert_msg(spec_read(&spec, path, NULL) == TAMIS_EINVAL, "%s: %s", path, tamis_last_error());
    ck_assert_msg(ends_with(tamis_last_error(), expected + 10), "%s: expected \"%s\", got \"%s\"", path, expected + 10,
                  tamis_last_error());
    ck_assert_ptr_null(spec.tiles);
    ck_assert_ptr_null(spec.text);
}

START_TEST(bad_specs)
{
    char path[1400], bad_folder[1024];
    snprintf(bad_folder, sizeof bad_folder, "%s", source_path("tests/bad_specs"));
    DIR *directory = opendir(bad_folder);
    ck_assert_msg(directory != NULL, "%s cannot be read", bad_folder);
    int count = 0;
    for (struct dirent *item; (item = readdir(directory));) {
        if (!ends_with(item->d_name, ".yaml")) continue;
        snprintf(path, sizeof path, "%s/%s", bad_folder, item->d_name);
        check_bad_spec(path);
        count++;
    }
    closedir(directory);
    ck_assert_int_ge(count, 120);
}
END_TEST

/* `repeat` times `text`, then `end`: too much to be a file of the tests. */
static void check_repeated(const char *begin, const char *text, int repeat, const char *end, const char *message)
{
    struct spec spec;
    struct tamisi_buf buf = TAMISI_BUF_INIT;
    tamisi_buf_puts(&buf, begin);
    for (int i = 0; i < repeat; i++) tamisi_buf_puts(&buf, text);
    tamisi_buf_puts(&buf, end);
    ck_assert(!buf.failed);
    ck_assert_int_eq(spec_parse(&spec, "big.yaml", buf.data, buf.size, NULL), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), message);
    tamisi_buf_free(&buf);
}

START_TEST(too_much)
{
    check_repeated(MINIMAL "#", "x", 300000, "\n",
                   "big.yaml:1:1: the file is larger than 256 KiB, a spec of a few would be right");
    check_repeated("", "[", 200000, "", "big.yaml:1:9: nested deeper than 8, the few levels of a spec would be right");
    check_repeated("", "- ", 100000, "",
                   "big.yaml:1:17: nested deeper than 8, the few levels of a spec would be right");
    check_repeated("archs: [", "1,", 100000, "]", "big.yaml:1:40003: more than 20000 values, fewer would be right");
    check_repeated(HEAD "tiles:\n", "- " TILE "\n", 1025, "",
                   "big.yaml:1029:3: more than 1024 tile entries, fewer would be right");
    check_repeated("name: ", "m", 200000, "",
                   "big.yaml:1:7: name is \"mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm...\", a name of at most 63 "
                   "characters a-z, 0-9, _, '.' and '-' would be right");
}
END_TEST

START_TEST(files_that_cannot_be_read)
{
    struct spec spec;
    ck_assert_int_eq(spec_read(&spec, folder_file("absent.yaml"), NULL), TAMIS_ENOTFOUND);
    ck_assert(ends_with(tamis_last_error(), "/absent.yaml: No such file or directory"));
    ck_assert_int_eq(spec_read(&spec, folder, NULL), TAMIS_EIO);
    ck_assert(ends_with(tamis_last_error(), ": is no regular file"));
    const char *path = folder_file("pipe");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(spec_read(&spec, path, NULL), TAMIS_EIO);
    ck_assert_ptr_null(spec.text);
    folder_add("tiles.yaml");
    folder_write("m.yaml", HEAD "tiles: [tiles.yaml]\n");
    ck_assert_int_eq(spec_read(&spec, folder_file("m.yaml"), NULL), TAMIS_EIO);
    ck_assert(ends_with(tamis_last_error(), "/tiles.yaml: is no regular file"));
    ck_assert_ptr_null(spec.text);
}
END_TEST

/* Whatever allocation is the one that fails: a status, and nothing half read. */
START_TEST(memory_runs_out)
{
    struct spec spec;
    const char *path = folder_file("m.yaml");
    if (!alloc_counted()) return;
    folder_write("t.yaml", "tiles: [" TILE ", " TILE ", " TILE "]\n");
    folder_write("m.yaml", HEAD "tiles: [t.yaml, " TILE "]\n");
    tamis_status status = TAMIS_ENOMEM;
    long long passed = 0;
    for (; status != TAMIS_OK; passed++) {
        alloc_refuse(passed);
        status = spec_read(&spec, path, NULL);
        alloc_refuse(-1);
        if (status == TAMIS_OK) continue;
        ck_assert_msg(status == TAMIS_ENOMEM, "after %lld allocations: %s", passed, tamis_last_error());
        ck_assert_ptr_null(spec.tiles);
        ck_assert_ptr_null(spec.text);
    }
    ck_assert_uint_eq(spec.tile_count, 4);
    ck_assert_int_gt(passed, 50);
    spec_free(&spec);
}
END_TEST

/* Every beginning of a spec, and every spec with one byte changed, is read or refused with a place. */
START_TEST(damaged)
{
    static const char text[] = MINIMAL "layers: 4\nsparse_layers: 1-2\ndtypes: [bf16]\n";
    struct spec spec;
    char copy[sizeof text];
    for (size_t bytes = 0; bytes < sizeof text - 1; bytes++) {
        if (spec_parse(&spec, "d.yaml", text, bytes, NULL) == TAMIS_OK)
            spec_free(&spec);
        else
            ck_assert_msg(strncmp(tamis_last_error(), "d.yaml:", 7) == 0, "%s", tamis_last_error());
        for (int bit = 0; bit < 8; bit++) {
            memcpy(copy, text, sizeof text);
            copy[bytes] = (char)(copy[bytes] ^ 1 << bit);
            if (spec_parse(&spec, "d.yaml", copy, sizeof text - 1, NULL) == TAMIS_OK)
                spec_free(&spec);
            else
                ck_assert_msg(strncmp(tamis_last_error(), "d.yaml:", 7) == 0, "%s", tamis_last_error());
        }
    }
}
END_TEST

Suite *spec_suite(void)
{
    Suite *suite = suite_create("spec");
    TCase *tcase = tcase_create("spec");
    tcase_add_checked_fixture(tcase, set_up, folder_remove);
    tcase_set_timeout(tcase, 120); /* valgrind */
    tcase_add_test(tcase, defaults);
    tcase_add_test(tcase, every_key);
    tcase_add_loop_test(tcase, sparse_layers, 0, (int)(sizeof layer_texts / sizeof layer_texts[0]));
    tcase_add_test(tcase, patterns);
    tcase_add_test(tcase, coverage_is_a_policy);
    tcase_add_test(tcase, other_editors);
    tcase_add_test(tcase, tile_files);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, schema_is_sound);
    tcase_add_test(tcase, listing_has_everything);
    tcase_add_loop_test(tcase, model_files, 0, MODEL_COUNT);
    tcase_add_test(tcase, model_files_are_known);
    tcase_add_test(tcase, bad_specs);
    tcase_add_test(tcase, too_much);
    tcase_add_test(tcase, files_that_cannot_be_read);
    tcase_add_test(tcase, memory_runs_out);
    tcase_add_test(tcase, damaged);
    suite_add_tcase(suite, tcase);
    return suite;
}
