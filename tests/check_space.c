/*
 * check_space.c: from a spec, filled in by hand, to its variants: which entries apply, in what order, under which names, and
 * what is dropped. The templates are small ones written to a temporary folder; check_space_models.c has the real ones.
 */
#define _POSIX_C_SOURCE 200809L

#include "folder.h"
#include "kernel_args.h"
#include "space.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

Suite *space_suite(void);
TCase *space_models_tcase(void); /* check_space_models.c */

static const char *const families[] = {"score", "select", "compress", "attend", "decompress"};

static const char *const bodies[] = {
    "$ entry{stage = \"score_sum\", symbol = \"tamis_\" .. p.name, threads = 32,\n"
    "$       shared_bytes = p.sum_block_m * p.head_dim, block_m = p.sum_block_m, block_n = p.stats_block_m}\n"
    "${p.dtype} ${p.head_dim} ${p.stages}\n",
    "$ entry{stage = \"select_pool\", symbol = \"tamis_\" .. p.name, threads = p.threads, shared_bytes = 0, block_m = 1,\n"
    "$       block_n = 0}\n$ for k in pairs(p) do\n${k}\n$ end\n",
    "$ entry{stage = \"compress\", symbol = p.name, threads = p.threads, shared_bytes = 0, block_m = 1, block_n = 0}\n"
    "$ for k in pairs(p) do\n${k}\n$ end\n",
    "$ if p.block_m == 48 then reject(\"block_m must be a power of two\") end\n"
    "$ entry{stage = \"attend\", symbol = \"tamis_\" .. p.name, threads = 32 * p.warps, shared_bytes = 1024 * p.block_m,\n"
    "$       block_m = p.block_m, block_n = 0}\n"
    "${p.name} ${p.arch} ${p.cc} ${p.shared_limit} ${p.dtype} ${p.q_in_registers}\n",
    "$ entry{stage = \"decompress\", symbol = p.name, threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}\ntext\n",
};

static struct spec_tile tiles[12];
static struct spec spec;
static const struct space_options *options;
static struct space_options options_storage;

static void write_template(const char *family, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%s.cu.lua", family);
    folder_write(name, text);
}

/* Add an entry that matches everything; `line` is its number in the "file". */
static struct spec_tile *add_tile(const char *family)
{
    struct spec_tile *tile = &tiles[spec.tile_count++];
    memset(tile, 0, sizeof *tile);
    snprintf(tile->family, sizeof tile->family, "%s", family);
    snprintf(tile->template_name, sizeof tile->template_name, "%s", family);
    snprintf(tile->file, sizeof tile->file, "tiles.yaml");
    snprintf(tile->reason, sizeof tile->reason, "reason %zu", spec.tile_count);
    tile->line = (int)spec.tile_count;
    return tile;
}

static void add_param(struct spec_tile *tile, const char *name, int count, long first, long second)
{
    struct spec_param *param = &tile->params[tile->param_count++];
    memset(param, 0, sizeof *param);
    snprintf(param->name, sizeof param->name, "%s", name);
    param->values[0] = first;
    param->values[1] = second;
    param->value_count = count;
}

static struct spec_tile *add_attend(long block_m, long warps)
{
    struct spec_tile *tile = add_tile("attend");
    add_param(tile, "block_m", 1, block_m, 0);
    add_param(tile, "q_in_registers", 1, 0, 0);
    add_param(tile, "warps", 1, warps, 0);
    return tile;
}

static void set_up(void)
{
    folder_make("space");
    for (int i = 0; i < 5; i++) write_template(families[i], bodies[i]);

    memset(&spec, 0, sizeof spec);
    snprintf(spec.name, sizeof spec.name, "model-8b");
    spec.dtypes[0] = TAMIS_BF16;
    spec.dtypes[1] = TAMIS_FP16;
    spec.dtype_count = 2;
    spec.problem.head_dim = 128;
    snprintf(spec.archs[0], sizeof spec.archs[0], "sm_80");
    snprintf(spec.archs[1], sizeof spec.archs[1], "sm_86");
    spec.arch_count = 2;
    spec.tiles = tiles;
    struct spec_tile *score = add_tile("score");
    add_param(score, "stages", 1, 2, 0);
    add_param(score, "stats_block_m", 1, 64, 0);
    add_param(score, "sum_block_m", 2, 128, 64);
    add_param(add_tile("select"), "threads", 1, 512, 0);
    add_param(add_tile("compress"), "threads", 2, 128, 256);
    add_tile("decompress");
    options_storage = (struct space_options){.templates_dir = folder, .abi_dir = folder};
    options = &options_storage;
}

static void make(struct space *space)
{
    const tamis_status status = space_make(space, &spec, options);
    ck_assert_msg(status == TAMIS_OK, "%s", tamis_last_error());
}

static void check_failure(const char *message)
{
    struct space space;
    ck_assert_int_eq(space_make(&space, &spec, options), TAMIS_EINVAL);
    ck_assert_str_eq(tamis_last_error(), message);
    ck_assert_ptr_null(space.variants);
}

static const struct {
    const char *arch;
    long bytes;
} shared_limits[] = {{"sm_80", 166912},  {"sm_86", 101376},  {"sm_89", 101376}, {"sm_90a", 232448},
                     {"sm_100", 232448}, {"sm_120", 101376}, {"sm_70", 0}};

START_TEST(shared_limit)
{
    ck_assert_int_eq(space_shared_limit(shared_limits[_i].arch), shared_limits[_i].bytes);
}
END_TEST

/* "arch name rank" of each variant, in order: the order is part of the contract. */
START_TEST(order_names_and_ranks)
{
    static const char *const expected[] = {
        "sm_80 score_bf16_d128_s2_stbm64_subm128 0", "sm_80 score_bf16_d128_s2_stbm64_subm64 1",
        "sm_80 score_fp16_d128_s2_stbm64_subm128 0", "sm_80 score_fp16_d128_s2_stbm64_subm64 1",
        "sm_86 score_bf16_d128_s2_stbm64_subm128 0", "sm_86 score_bf16_d128_s2_stbm64_subm64 1",
        "sm_86 score_fp16_d128_s2_stbm64_subm128 0", "sm_86 score_fp16_d128_s2_stbm64_subm64 1",
        "sm_80 select_t512 0", "sm_86 select_t512 0",
        "sm_80 compress_d128_t128 0", "sm_80 compress_d128_t256 1",
        "sm_86 compress_d128_t128 0", "sm_86 compress_d128_t256 1",
        "sm_80 attend_bf16_d128_bm64_qir0_w4 0", "sm_80 attend_fp16_d128_bm64_qir0_w4 0",
        "sm_86 attend_bf16_d128_bm64_qir0_w4 0", "sm_86 attend_fp16_d128_bm64_qir0_w4 0",
        "sm_80 decompress_d128 0", "sm_86 decompress_d128 0"};
    struct space space;
    add_attend(64, 4);
    make(&space);
    ck_assert_uint_eq(space.variant_count, sizeof expected / sizeof expected[0]);
    ck_assert_uint_eq(space.rejection_count, 0);
    for (size_t i = 0; i < space.variant_count; i++) {
        char found[160];
        const struct tamisi_variant *variant = &space.variants[i].variant;
        snprintf(found, sizeof found, "%s %s %d", variant->arch, variant->name, variant->rank);
        ck_assert_str_eq(found, expected[i]);
    }
    space_free(&space);
    ck_assert_ptr_null(space.variants);
}
END_TEST

static const struct space_variant *find(const struct space *space, const char *arch, const char *family)
{
    for (size_t i = 0; i < space->variant_count; i++) {
        const struct tamisi_variant *variant = &space->variants[i].variant;
        if (strcmp(variant->family, family) == 0 && strcmp(variant->arch, arch) == 0) return &space->variants[i];
    }
    ck_abort_msg("no %s for %s", family, arch);
    return NULL;
}

START_TEST(variant_members)
{
    struct space space;
    add_attend(64, 4);
    make(&space);
    const struct space_variant *attend = find(&space, "sm_86", "attend");
    const struct tamisi_variant *variant = &attend->variant;
    ck_assert_str_eq(variant->spec, "model-8b");
    ck_assert_str_eq(variant->params, "block_m=64 q_in_registers=0 warps=4");
    ck_assert_int_eq(variant->dtype, TAMIS_BF16);
    ck_assert_int_eq(variant->head_dim, 128);
    ck_assert_int_eq(variant->abi, TAMIS_KERNEL_ABI);
    ck_assert_int_eq(variant->entry_count, 1);
    ck_assert_str_eq(variant->entries[0].symbol, "tamis_attend_bf16_d128_bm64_qir0_w4");
    ck_assert_int_eq(variant->entries[0].threads, 128);
    ck_assert_str_eq(attend->reason, "reason 5");
    ck_assert_str_eq(attend->text,
                     "// made by: tamis show SPEC --variant attend_bf16_d128_bm64_qir0_w4 --arch sm_86\n"
                     "// tamis_attend_bf16_d128_bm64_qir0_w4: 128 threads, 65536 bytes of dynamic shared memory\n\n"
                     "attend_bf16_d128_bm64_qir0_w4 sm_86 86 101376 bf16 0\n");
    ck_assert_ptr_nonnull(strstr(attend->lined, "#line 4 \"attend.cu.lua\"\nattend_bf16"));
    const struct tamisi_hash hash = tamisi_hash_bytes(attend->text, strlen(attend->text));
    ck_assert(tamisi_hash_equal(&variant->source, &hash));
    space_free(&space);
}
END_TEST

/* A family is told only what it may depend on. */
START_TEST(parameters_by_family)
{
    struct space space;
    add_attend(64, 4);
    make(&space);
    const struct space_variant *select = find(&space, "sm_80", "select"), *compress = find(&space, "sm_80", "compress");
    ck_assert_int_eq(select->variant.dtype, TAMISI_ANY);
    ck_assert_int_eq(select->variant.head_dim, 0);
    ck_assert_ptr_nonnull(strstr(select->text, "\n\narch\ncc\nname\nshared_limit\nthreads\n"));
    ck_assert_int_eq(compress->variant.dtype, TAMISI_ANY);
    ck_assert_int_eq(compress->variant.head_dim, 128);
    ck_assert_ptr_nonnull(strstr(compress->text, "\n\narch\ncc\nhead_dim\nname\nshared_limit\nthreads\n"));
    space_free(&space);
}
END_TEST

/* Entries of another architecture, head dim, dtype or family are passed over; the first that fits is the default. */
START_TEST(entries_match)
{
    struct space space;
    snprintf(add_attend(16, 1)->archs[0], 16, "sm_90a");
    tiles[spec.tile_count - 1].arch_count = 1;
    add_attend(32, 1)->head_dims[0] = 64;
    tiles[spec.tile_count - 1].head_dim_count = 1;
    add_attend(64, 2)->dtypes[0] = TAMIS_FP16;
    tiles[spec.tile_count - 1].dtype_count = 1;
    add_attend(64, 4);
    spec.arch_count = 1;
    make(&space);
    ck_assert_uint_eq(space.variant_count, 4 + 1 + 2 + 3 + 1);
    ck_assert_str_eq(space.variants[7].variant.name, "attend_bf16_d128_bm64_qir0_w4");
    ck_assert_str_eq(space.variants[8].variant.name, "attend_fp16_d128_bm64_qir0_w2");
    ck_assert_int_eq(space.variants[8].variant.rank, 0);
    ck_assert_str_eq(space.variants[9].variant.name, "attend_fp16_d128_bm64_qir0_w4");
    ck_assert_int_eq(space.variants[9].variant.rank, 1);
    space_free(&space);
}
END_TEST

START_TEST(equal_points_once)
{
    struct space space;
    add_attend(64, 4);
    add_attend(64, 4);
    add_attend(48, 4);
    add_attend(48, 4);
    spec.arch_count = 1;
    spec.dtype_count = 1;
    make(&space);
    ck_assert_uint_eq(space.variant_count, 2 + 1 + 2 + 1 + 1);
    ck_assert_uint_eq(space.rejection_count, 1);
    ck_assert_str_eq(find(&space, "sm_80", "attend")->reason, "reason 5");
    space_free(&space);
}
END_TEST

START_TEST(rejections_have_reasons)
{
    struct space space;
    add_attend(48, 4);
    add_attend(128, 4); /* 128 KiB: fits sm_80, not sm_86 */
    add_attend(32, 64);
    add_attend(64, 4);
    spec.dtype_count = 1;
    make(&space);
    ck_assert_uint_eq(space.rejection_count, 5);
    ck_assert_str_eq(space.rejections[0].reason, "block_m must be a power of two");
    ck_assert_str_eq(space.rejections[0].name, "attend_bf16_d128_bm48_qir0_w4");
    ck_assert_str_eq(space.rejections[1].reason, "attend has 2048 threads, a block has at most 1024");
    ck_assert_str_eq(space.rejections[3].arch, "sm_86");
    ck_assert_str_eq(space.rejections[3].reason, "attend needs 131072 bytes of shared memory, sm_86 has 101376 a block");
    ck_assert_str_eq(find(&space, "sm_80", "attend")->variant.params, "block_m=128 q_in_registers=0 warps=4");
    ck_assert_str_eq(find(&space, "sm_86", "attend")->variant.params, "block_m=64 q_in_registers=0 warps=4");
    ck_assert_int_eq(find(&space, "sm_86", "attend")->variant.rank, 0);
    space_free(&space);
}
END_TEST

START_TEST(defaults_and_given_archs)
{
    struct space space;
    static const char *const archs[] = {"sm_90a", NULL};
    add_attend(48, 4);
    add_attend(128, 4);
    add_attend(64, 4);
    options_storage.archs = archs;
    options_storage.defaults_only = true;
    make(&space);
    ck_assert_uint_eq(space.variant_count, 2 + 1 + 1 + 2 + 1);
    for (size_t i = 0; i < space.variant_count; i++) {
        ck_assert_int_eq(space.variants[i].variant.rank, 0);
        ck_assert_str_eq(space.variants[i].variant.arch, "sm_90a");
    }
    ck_assert_str_eq(find(&space, "sm_90a", "attend")->variant.name, "attend_bf16_d128_bm128_qir0_w4");
    space_free(&space);
}
END_TEST

START_TEST(twice_gives_the_same)
{
    struct space first, second;
    add_attend(64, 4);
    make(&first);
    make(&second);
    ck_assert_uint_eq(first.variant_count, second.variant_count);
    for (size_t i = 0; i < first.variant_count; i++) {
        ck_assert_mem_eq(&first.variants[i].variant, &second.variants[i].variant, sizeof first.variants[i].variant);
        ck_assert_str_eq(first.variants[i].lined, second.variants[i].lined);
    }
    space_free(&first);
    space_free(&second);
}
END_TEST

START_TEST(nothing_left)
{
    check_failure("model-8b: attend for sm_80, bf16, head_dim 128: no tile entry matches");
    add_attend(48, 4);
    add_attend(200, 4);
    check_failure("model-8b: attend for sm_80, bf16, head_dim 128: all 2 variants are rejected, the last, "
                  "attend_bf16_d128_bm200_qir0_w4: attend needs 204800 bytes of shared memory, sm_80 has 166912 a block");
    tiles[2].head_dims[0] = 64;
    tiles[2].head_dim_count = 1;
    check_failure("model-8b: compress for sm_80, head_dim 128: no tile entry matches");
}
END_TEST

START_TEST(bad_spaces)
{
    static const char *const archs[] = {"sm_75", NULL};
    struct spec_tile *tile = add_attend(64, 4);
    for (int i = 0; i < 7; i++) {
        char name[32];
        snprintf(name, sizeof name, "x_%d", i);
        add_param(tile, name, 2, 1, 2);
        tile->params[tile->param_count - 1].value_count = 4;
    }
    check_failure("tiles.yaml:5: the values make more than 4096 variants of attend");
    for (int i = 3; i < 10; i++) tile->params[i].values[0] = 1000000000000000;
    for (int i = 3; i < 10; i++) tile->params[i].value_count = 1;
    check_failure("tiles.yaml:5: the parameters of attend make too long a name");
    tile->param_count = 3;
    snprintf(tile->params[1].name, sizeof tile->params[1].name, "quick_in_registers");
    check_failure("attend.cu.lua:4: p has no \"q_in_registers\"; did you mean \"quick_in_registers\"?");
    options_storage.archs = archs;
    check_failure("model-8b: unknown architecture \"sm_75\"");
}
END_TEST

/* A family's templates stand side by side: variants are named by template, found by family, ranked in the spec's order. */
START_TEST(two_templates)
{
    struct space space;
    write_template("attend_wgmma", bodies[3]);
    snprintf(add_attend(128, 4)->template_name, sizeof tiles[0].template_name, "attend_wgmma");
    add_attend(64, 4);
    spec.arch_count = 1;
    spec.dtype_count = 1;
    make(&space);
    ck_assert_uint_eq(space.variant_count, 2 + 1 + 2 + 2 + 1);
    const struct tamisi_variant *first = &space.variants[5].variant, *second = &space.variants[6].variant;
    ck_assert_str_eq(first->name, "attend_wgmma_bf16_d128_bm128_qir0_w4");
    ck_assert_str_eq(first->family, "attend");
    ck_assert_int_eq(first->rank, 0);
    ck_assert_ptr_nonnull(strstr(space.variants[5].lined, "#line 4 \"attend_wgmma.cu.lua\"\n"));
    ck_assert_str_eq(second->name, "attend_bf16_d128_bm64_qir0_w4");
    ck_assert_str_eq(second->family, "attend");
    ck_assert_int_eq(second->rank, 1);
    space_free(&space);
}
END_TEST

/* Two specs that ask for the same kernel share its text, and so its key in a store. */
START_TEST(text_knows_no_spec)
{
    struct space first, second;
    add_attend(64, 4);
    make(&first);
    snprintf(spec.name, sizeof spec.name, "model-70b");
    make(&second);
    ck_assert_uint_eq(first.variant_count, second.variant_count);
    for (size_t i = 0; i < first.variant_count; i++) {
        ck_assert_str_eq(second.variants[i].variant.spec, "model-70b");
        ck_assert(tamisi_hash_equal(&first.variants[i].variant.source, &second.variants[i].variant.source));
    }
    space_free(&first);
    space_free(&second);
}
END_TEST

/* Entries with different parameters can abbreviate to one name. */
START_TEST(equal_names)
{
    add_attend(64, 4);
    struct spec_tile *tile = add_attend(64, 4);
    add_param(tile, "x_y", 1, 1, 0);
    tile = add_attend(64, 4);
    add_param(tile, "x_yy", 1, 1, 0);
    check_failure("tiles.yaml:7: \"block_m=64 q_in_registers=0 warps=4 x_y=1\" and \"block_m=64 q_in_registers=0 warps=4 "
                  "x_yy=1\" are both named attend_bf16_d128_bm64_qir0_w4_xy1");
}
END_TEST

START_TEST(missing_template)
{
    struct space space;
    add_attend(64, 4);
    ck_assert_int_eq(unlink(folder_file("decompress.cu.lua")), 0);
    ck_assert_int_eq(space_make(&space, &spec, options), TAMIS_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(tamis_last_error(), "decompress.cu.lua: no such file"));
}
END_TEST

/* Variants with an output map, of a spec that asks: attend's entries once more, with a parameter in its place among theirs. */
START_TEST(output_maps)
{
    struct space without, with;
    write_template("attend", "$ entry{stage = \"attend\", symbol = p.name, threads = 32, shared_bytes = 0, block_m = 1, "
                             "block_n = 0}\n"
                             "$ if p.output_map == 1 and p.block_m == 32 then reject(\"no room\") end\nmap ${p.output_map}\n");
    add_attend(32, 4);
    add_attend(64, 4);
    make(&without);
    spec.output_map = 1;
    make(&with);
    ck_assert_uint_eq(with.variant_count, without.variant_count + 4); /* two dtypes on two architectures */
    ck_assert_uint_eq(with.rejection_count, 4);
    ck_assert_str_eq(with.rejections[0].name, "attend_bf16_d128_bm32_om1_qir0_w4");
    for (size_t i = 0; i < without.variant_count; i++) {
        ck_assert_str_eq(with.variants[i].variant.name, without.variants[i].variant.name);
        ck_assert_str_eq(with.variants[i].text, without.variants[i].text);
    }
    ck_assert_ptr_nonnull(strstr(find(&with, "sm_86", "attend")->text, "map 0\n"));
    const struct space_variant *mapped = find(&with, "sm_86", "attend_map");
    ck_assert_ptr_nonnull(strstr(mapped->text, "map 1\n"));
    ck_assert_str_eq(mapped->variant.name, "attend_bf16_d128_bm64_om1_qir0_w4");
    ck_assert_str_eq(mapped->variant.params, "block_m=64 output_map=1 q_in_registers=0 warps=4");
    ck_assert_int_eq(mapped->variant.rank, 0);
    ck_assert_int_ne(mapped->variant.abi, find(&with, "sm_86", "attend")->variant.abi);
    space_free(&without);
    space_free(&with);
}
END_TEST

/* The chosen one first in each of its combinations, the others behind it in their order, and everything else untouched. */
START_TEST(promoted_variants)
{
    struct space space;
    char chosen[TAMISI_SYMBOL_SIZE] = "";
    add_attend(64, 4);
    add_attend(80, 8);
    add_attend(32, 2);
    ck_assert_int_eq(space_make(&space, &spec, options), TAMIS_OK);
    const size_t count = space.variant_count;
    for (size_t i = 0; i < count && !chosen[0]; i++)
        if (strcmp(space.variants[i].variant.family, "attend") == 0 && space.variants[i].variant.rank == 2)
            memcpy(chosen, space.variants[i].variant.name, sizeof chosen);
    ck_assert_int_eq(space_promote(&space, "attend_of_no_spec"), 0);
    ck_assert_int_eq(space_promote(&space, chosen), 2); /* of one dtype, on two architectures */
    ck_assert_uint_eq(space.variant_count, count);
    for (size_t i = 0; i < count; i++) {
        const struct tamisi_variant *variant = &space.variants[i].variant;
        if (strcmp(variant->name, chosen) == 0) ck_assert_int_eq(variant->rank, 0);
        if (variant->rank > 0) ck_assert_int_eq(variant->rank, space.variants[i - 1].variant.rank + 1);
        if (strcmp(variant->name, chosen) != 0 || i + 2 >= count) continue;
        ck_assert_ptr_nonnull(strstr(space.variants[i + 1].variant.params, "block_m=64"));
        ck_assert_ptr_nonnull(strstr(space.variants[i + 2].variant.params, "block_m=80"));
    }
    space_keep_defaults(&space);
    ck_assert_uint_lt(space.variant_count, count);
    for (size_t i = 0; i < space.variant_count; i++) ck_assert_int_eq(space.variants[i].variant.rank, 0);
    space_free(&space);
}
END_TEST

Suite *space_suite(void)
{
    Suite *suite = suite_create("space");
    TCase *tcase = tcase_create("space");
    tcase_add_checked_fixture(tcase, set_up, folder_remove);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, shared_limit, 0, (int)(sizeof shared_limits / sizeof shared_limits[0]));
    tcase_add_test(tcase, order_names_and_ranks);
    tcase_add_test(tcase, variant_members);
    tcase_add_test(tcase, parameters_by_family);
    tcase_add_test(tcase, entries_match);
    tcase_add_test(tcase, equal_points_once);
    tcase_add_test(tcase, rejections_have_reasons);
    tcase_add_test(tcase, defaults_and_given_archs);
    tcase_add_test(tcase, twice_gives_the_same);
    tcase_add_test(tcase, nothing_left);
    tcase_add_test(tcase, bad_spaces);
    tcase_add_test(tcase, two_templates);
    tcase_add_test(tcase, text_knows_no_spec);
    tcase_add_test(tcase, equal_names);
    tcase_add_test(tcase, missing_template);
    tcase_add_test(tcase, output_maps);
    tcase_add_test(tcase, promoted_variants);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, space_models_tcase());
    return suite;
}
