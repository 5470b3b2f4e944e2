/*
 * check_space_models.c: what the real templates make of the specs under specs/: a default for everything, and sources equal
 * to those of tests/golden byte for byte. A part of the space suite.
 */
#define _POSIX_C_SOURCE 200809L

#include "space.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TCase *space_models_tcase(void);

/* A golden source for each template: what is made by default, bf16, of the first model, for an architecture. */
static const struct {
    const char *template_name, *family, *arch;
} goldens[] = {{"score", "score", "sm_80"},       {"score_wgmma", "score", "sm_90a"},   {"select", "select", "sm_80"},
               {"compress", "compress", "sm_80"}, {"attend", "attend", "sm_80"},        {"attend_wgmma", "attend", "sm_90a"},
               {"decompress", "decompress", "sm_80"}, {"drift", "drift", "sm_80"},      {"blocks", "blocks", "sm_80"},
               {"attend_blocks", "attend_blocks", "sm_80"}, {"attend_blocks_wgmma", "attend_blocks", "sm_90a"},
               {"pattern", "pattern", "sm_80"}, {"pattern_lines", "pattern_lines", "sm_80"},
               {"pattern_heads", "pattern_heads", "sm_80"}, {"pattern_xattn", "pattern_xattn", "sm_80"},
               {"pattern_xattn_wgmma", "pattern_xattn", "sm_90a"}};
#define GOLDENS ((int)(sizeof goldens / sizeof *goldens))

static const char *const all_models[] = {"gemma-2-9b", "gpt-oss-20b", "llama-3.1-70b", "llama-3.1-8b",
                                         "llama-3.1-8b-flexprefill", "mistral-nemo-12b", "phi-3-mini", "qwen3-8b"};

static const char *source_dir(void)
{
    const char *source = getenv("TAMIS_SOURCE_DIR");
    ck_assert_msg(source != NULL, "TAMIS_SOURCE_DIR is not set: run the tests by tests/run.sh or ctest");
    return source;
}

static char *read_file(const char *path)
{
    struct tamisi_buf text = TAMISI_BUF_INIT;
    char block[4096];
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    for (size_t bytes; (bytes = fread(block, 1, sizeof block, file)) > 0;) tamisi_buf_append(&text, block, bytes);
    fclose(file);
    return tamisi_buf_take(&text);
}

static int first_difference(const char *a, const char *b)
{
    int line = 1;
    for (; *a && *a == *b; a++, b++) line += *a == '\n';
    return line;
}

START_TEST(golden_sources)
{
    const char *const name = goldens[_i].template_name, *const arch = goldens[_i].arch;
    const char *const archs[] = {arch, NULL};
    char path[1024], templates_dir[1024], abi_dir[1024];
    struct spec model;
    struct space space;
    snprintf(path, sizeof path, "%s/specs/llama-3.1-8b-flexprefill.yaml", source_dir());
    snprintf(templates_dir, sizeof templates_dir, "%s/templates", source_dir());
    snprintf(abi_dir, sizeof abi_dir, "%s/runtime", source_dir());
    ck_assert_msg(spec_read(&model, path, NULL) == TAMIS_OK, "%s", tamis_last_error());
    const struct space_options golden = {templates_dir, abi_dir, archs, true};
    ck_assert_msg(space_make(&space, &model, &golden) == TAMIS_OK, "%s", tamis_last_error());
    const struct space_variant *variant = space.variants; /* the first of the family is that of the first dtype */
    while (strcmp(variant->variant.family, goldens[_i].family) != 0) variant++;
    ck_assert_int_ne(variant->variant.dtype, TAMIS_FP16);
    snprintf(path, sizeof path, "%s/tests/golden/%s.cu", source_dir(), name);
    char *expected = read_file(path);
    ck_assert_msg(strcmp(expected, variant->text) == 0,
                  "tests/golden/%s.cu differs from what the templates make, from line %d on; if that is meant, renew it: "
                  "tamis show specs/llama-3.1-8b-flexprefill.yaml --variant %s --arch %s > tests/golden/%s.cu",
                  name, first_difference(expected, variant->text), variant->variant.name, arch, name);
    free(expected);
    space_free(&space);
    spec_free(&model);
}
END_TEST

/* Every model has a default for each family, architecture and dtype. */
START_TEST(models_expand)
{
    char path[1024], templates_dir[1024], abi_dir[1024];
    struct spec model;
    struct space space;
    snprintf(path, sizeof path, "%s/specs/%s.yaml", source_dir(), all_models[_i]);
    snprintf(templates_dir, sizeof templates_dir, "%s/templates", source_dir());
    snprintf(abi_dir, sizeof abi_dir, "%s/runtime", source_dir());
    ck_assert_msg(spec_read(&model, path, NULL) == TAMIS_OK, "%s", tamis_last_error());
    const struct space_options every = {templates_dir, abi_dir, NULL, false};
    ck_assert_msg(space_make(&space, &model, &every) == TAMIS_OK, "%s", tamis_last_error());
    ck_assert_uint_ge(space.variant_count, 6 * (2 + 2 + 3));
    space_free(&space);
    spec_free(&model);
}
END_TEST

TCase *space_models_tcase(void)
{
    TCase *tcase = tcase_create("models");
    tcase_set_timeout(tcase, 300); /* valgrind */
    tcase_add_loop_test(tcase, golden_sources, 0, GOLDENS);
    tcase_add_loop_test(tcase, models_expand, 0, (int)(sizeof all_models / sizeof all_models[0]));
    return tcase;
}
