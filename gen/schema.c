/*
 * schema.c: the tables of what a spec file may say, and looking things up in them. See schema.h.
 */
#include "schema.h"

#include <stdio.h>
#include <string.h>

static const char *const dtype_words[] = {"bf16", "fp16", NULL};
static const char *const bool_words[] = {"false", "true", NULL};
static const char *const policy_words[] = {"dense", "coverage", "ratio", "count", NULL};
static const char *const scope_words[] = {"head", "kv_group", "layer", NULL};
static const char *const pattern_words[] = {"sliding", "vertical_slash", "flexprefill", "xattention", "topk_blocks", NULL};
static const char *const stride_words[] = {"4", "8", "16", "32", "64", NULL};
static const char *const head_dim_words[] = {"64", "96", "128", "256", NULL};
const char *const spec_families[] = {"score",  "select",        "compress", "attend", "decompress", "drift",
                                     "blocks", "attend_blocks", "pattern",  "pattern_lines", "pattern_heads", "pattern_xattn",
                                     NULL};
const char *const spec_archs[] = {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120", NULL};

#define TO(type, member) .offset = offsetof(struct type, member), .bytes = sizeof(((struct type *)0)->member)
#define LIST(type, member, count)                                                                                      \
    .offset = offsetof(struct type, member), .bytes = sizeof(((struct type *)0)->member[0]),                            \
    .most = (int)(sizeof(((struct type *)0)->member) / sizeof(((struct type *)0)->member[0])),                          \
    .count_offset = offsetof(struct type, count)
#define TOKENS (1 << 24) /* the longest sequence */

const struct schema_key schema_keys[] = {
    {SCHEMA_SPEC, "name", SCHEMA_NAME, SCHEMA_REQUIRED, TO(spec, name),
     .meaning = "what the store and the library call this model"},
    {SCHEMA_SPEC, "layers", SCHEMA_INT, 0, 1, 1024, TO(spec, layers), .meaning = "attention layers of the model"},
    {SCHEMA_SPEC, "sparse_layers", SCHEMA_LAYERS, 0, TO(spec, sparse_layers),
     .meaning = "layers to run sparse, counted from 0; for the host's information"},
    {SCHEMA_SPEC, "dtypes", SCHEMA_ENUM, 0, .words = dtype_words, LIST(spec, dtypes, dtype_count), .otherwise = "bf16",
     .meaning = "storage of Q, K, V and the output; the first is the default"},
    {SCHEMA_SPEC, "attention", SCHEMA_MAPPING, SCHEMA_REQUIRED, .inner = SCHEMA_ATTENTION,
     .meaning = "the heads' geometry"},
    {SCHEMA_SPEC, "selection", SCHEMA_MAPPING, SCHEMA_REQUIRED, .inner = SCHEMA_SELECTION,
     .meaning = "which tokens are kept: exactly one of coverage, ratio and count says how many"},
    {SCHEMA_SPEC, "pattern", SCHEMA_MAPPING, 0, .inner = SCHEMA_PATTERN,
     .meaning = "which blocks of 128 keys each 128 queries attend to: kind, and parameters of that kind; "
                "all blocks without it"},
    {SCHEMA_SPEC, "output_map", SCHEMA_ENUM, 0, .words = bool_words, TO(spec, output_map), .otherwise = "false",
     .meaning = "true: attention kernels that multiply kept rows by a matrix of their head, too, out of attend's entries"},
    {SCHEMA_SPEC, "archs", SCHEMA_WORD, 0, .words = spec_archs, LIST(spec, archs, arch_count),
     .otherwise = "sm_80 sm_86 sm_89 sm_90a sm_100 sm_120", .meaning = "GPU architectures to make kernels for"},
    {SCHEMA_SPEC, "tiles", SCHEMA_TILES, SCHEMA_REQUIRED,
     .meaning = "shared tile files, beside the spec or among tamis's own, and this model's entries, which come first"},

    {SCHEMA_ATTENTION, "q_heads", SCHEMA_INT, SCHEMA_REQUIRED, 1, 1024, TO(spec, problem.q_heads),
     .meaning = "query heads, a multiple of kv_heads"},
    {SCHEMA_ATTENTION, "kv_heads", SCHEMA_INT, SCHEMA_REQUIRED, 1, 1024, TO(spec, problem.kv_heads),
     .meaning = "key/value heads"},
    {SCHEMA_ATTENTION, "head_dim", SCHEMA_INT, SCHEMA_REQUIRED | SCHEMA_VALUE, .words = head_dim_words,
     TO(spec, problem.head_dim), .meaning = "elements of a head's row"},
    {SCHEMA_ATTENTION, "scale", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1000, TO(spec, problem.scale),
     .meaning = "of the logits; 1/sqrt(head_dim) where not given"},

    {SCHEMA_SELECTION, "coverage", SCHEMA_REAL, SCHEMA_BELOW_HIGH, 0, 1, TO(spec, problem.selection.coverage),
     .meaning = "tau: drop the tokens that together have less than this part of the attention mass; 0: dense"},
    {SCHEMA_SELECTION, "ratio", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1, TO(spec, problem.selection.ratio),
     .meaning = "keep this part of the tokens before the window"},
    {SCHEMA_SELECTION, "count", SCHEMA_INT, 0, 0, TOKENS, TO(spec, problem.selection.count),
     .meaning = "keep this many of the tokens before the window"},
    {SCHEMA_SELECTION, "scope", SCHEMA_ENUM, 0, .words = scope_words, TO(spec, problem.selection.scope),
     .otherwise = "head",
     .meaning = "which heads choose together: each query head alone, those of a KV head, or all of a layer"},
    {SCHEMA_SELECTION, "window", SCHEMA_INT, 0, 1, 1024, TO(spec, problem.selection.window), .otherwise = "128",
     .meaning = "the last queries, which score the tokens before them and are always kept"},
    {SCHEMA_SELECTION, "pool", SCHEMA_INT, SCHEMA_ODD, 1, 63, TO(spec, problem.selection.pool), .otherwise = "7",
     .meaning = "width of the moving average over scores; 1: none"},
    {SCHEMA_SELECTION, "min_tokens", SCHEMA_INT, 0, 0, TOKENS, TO(spec, problem.selection.min_tokens),
     .otherwise = "1024", .meaning = "never keep fewer before the window"},
    {SCHEMA_SELECTION, "ratios", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1, LIST(spec, ratios, ratio_count),
     .otherwise = "1 0.75 0.5", .meaning = "kept parts at which tuning and benchmarks measure"},

    {SCHEMA_PATTERN, "kind", SCHEMA_ENUM, SCHEMA_REQUIRED, .words = pattern_words, TO(spec, pattern.kind),
     .meaning = "how blocks are chosen"},
    {SCHEMA_PATTERN, "sink_tokens", SCHEMA_INT, 0, 0, TOKENS, TO(spec, pattern.sliding.sink_tokens), .otherwise = "128",
     .meaning = "sliding: the first tokens, which every query sees"},
    {SCHEMA_PATTERN, "window_tokens", SCHEMA_INT, 0, 1, TOKENS, TO(spec, pattern.sliding.window_tokens), .otherwise = "3968",
     .meaning = "sliding: the last tokens up to a query, itself included"},
    {SCHEMA_PATTERN, "last_queries", SCHEMA_INT, 0, 1, 128, TO(spec, pattern.vertical_slash.last_queries), .otherwise = "64",
     .meaning = "vertical_slash: the queries that estimate what is attended to"},
    {SCHEMA_PATTERN, "vertical_lines", SCHEMA_INT, 0, 0, TOKENS, TO(spec, pattern.vertical_slash.vertical_lines),
     .otherwise = "1000", .meaning = "vertical_slash: columns kept, as lines / 128 + 1 blocks"},
    {SCHEMA_PATTERN, "slash_lines", SCHEMA_INT, 0, 0, TOKENS, TO(spec, pattern.vertical_slash.slash_lines),
     .otherwise = "6096", .meaning = "vertical_slash: diagonals kept, as lines / 128 + 1 blocks"},
    {SCHEMA_PATTERN, "coverage", SCHEMA_REAL, 0, 0, 1, TO(spec, pattern.vertical_slash.coverage), .otherwise = "0",
     .meaning = "vertical_slash: as many lines of each as hold this part of the mass instead; 0: the counts above"},
    {SCHEMA_PATTERN, "gamma", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1, TO(spec, pattern.flexprefill.gamma), .otherwise = "0.95",
     .meaning = "flexprefill: part of the attention mass to keep"},
    {SCHEMA_PATTERN, "tau", SCHEMA_REAL, 0, 0, 1, TO(spec, pattern.flexprefill.tau), .otherwise = "0.1",
     .meaning = "flexprefill: query-aware blocks where the Jensen-Shannon distance is below"},
    {SCHEMA_PATTERN, "min_tokens", SCHEMA_INT, 0, 0, TOKENS, TO(spec, pattern.flexprefill.min_tokens), .otherwise = "1024",
     .meaning = "flexprefill: keys of columns, and of diagonals, at least"},
    {SCHEMA_PATTERN, "max_tokens", SCHEMA_INT, 0, 0, TOKENS, TO(spec, pattern.flexprefill.max_tokens), .otherwise = "0",
     .meaning = "flexprefill: the same at most; 0: no bound"},
    {SCHEMA_PATTERN, "stride", SCHEMA_INT, SCHEMA_VALUE, .words = stride_words, TO(spec, pattern.xattention.stride),
     .otherwise = "16", .meaning = "xattention: of the antidiagonals that are summed"},
    {SCHEMA_PATTERN, "threshold", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1, TO(spec, pattern.xattention.threshold),
     .otherwise = "0.9", .meaning = "xattention: part of a query block's estimated mass to keep"},
    {SCHEMA_PATTERN, "blocks", SCHEMA_INT, 0, 0, TOKENS / 128, TO(spec, pattern.topk_blocks.blocks), .otherwise = "0",
     .meaning = "topk_blocks: blocks for each query block; 0: by ratio"},
    {SCHEMA_PATTERN, "ratio", SCHEMA_REAL, SCHEMA_ABOVE_LOW, 0, 1, TO(spec, pattern.topk_blocks.ratio), .otherwise = "0.1",
     .meaning = "topk_blocks: part of the blocks up to the query block"},

    {SCHEMA_TILE_LIST, "tiles", SCHEMA_TILES, SCHEMA_REQUIRED, .meaning = "tile entries"},

    {SCHEMA_TILE, "family", SCHEMA_WORD, SCHEMA_REQUIRED, .words = spec_families, TO(spec_tile, family),
     .meaning = "the stage that the entry is for"},
    {SCHEMA_TILE, "template", SCHEMA_NAME, 0, TO(spec_tile, template_name),
     .meaning = "the template that it is expanded by; the family's first where not given"},
    {SCHEMA_TILE, "archs", SCHEMA_WORD, 0, .words = spec_archs, LIST(spec_tile, archs, arch_count),
     .meaning = "architectures that it holds for; all where not given"},
    {SCHEMA_TILE, "head_dims", SCHEMA_INT, SCHEMA_VALUE, .words = head_dim_words,
     LIST(spec_tile, head_dims, head_dim_count), .meaning = "head dims that it holds for; all where not given"},
    {SCHEMA_TILE, "dtypes", SCHEMA_ENUM, 0, .words = dtype_words, LIST(spec_tile, dtypes, dtype_count),
     .meaning = "dtypes that it holds for; all where not given"},
    {SCHEMA_TILE, "params", SCHEMA_PARAMS, SCHEMA_REQUIRED,
     .meaning = "a value or a list of values for each parameter of the template; the first of each make the default"},
    {SCHEMA_TILE, "reason", SCHEMA_TEXT, 0, TO(spec_tile, reason), .meaning = "why these values"},
};
const int schema_key_count = (int)(sizeof schema_keys / sizeof schema_keys[0]);
_Static_assert(sizeof schema_keys / sizeof schema_keys[0] <= SCHEMA_MAX_KEYS, "SCHEMA_MAX_KEYS is too small");

const struct schema_template schema_templates[] = {
    {"score", "score", "two passes over the keys, mma.sync; sm_80 and newer"},
    {"score_wgmma", "score", "two passes over the keys, warpgroup MMA; sm_90a only"},
    {"select", "select", "pooling, budget and choice by digits of the scores' bits"},
    {"compress", "compress", "gathers the kept rows"},
    {"attend", "attend", "FlashAttention-2 tiling, mma.sync and cp.async; sm_80 and newer"},
    {"attend_wgmma", "attend", "warpgroup MMA, TMA and specialised warps; sm_90a only"},
    {"decompress", "decompress", "scatters rows to their tokens, zeros elsewhere"},
    {"drift", "drift", "how far a layer moves its tokens, for the choice of sparse layers; a spec may do without"},
    {"blocks", "blocks", "lists out of a host's block patterns, and their order"},
    {"attend_blocks", "attend_blocks", "attend on lists of 128 x 128 blocks; sm_80 and newer"},
    {"attend_blocks_wgmma", "attend_blocks", "attend_wgmma on lists of 128 x 128 blocks; sm_90a only"},
    {"pattern", "pattern", "sliding windows, means of blocks, and lists out of scores"},
    {"pattern_lines", "pattern_lines", "what the last queries attend to, by columns and diagonals; mma.sync"},
    {"pattern_heads", "pattern_heads", "lists out of columns, diagonals and pairs of blocks"},
    {"pattern_xattn", "pattern_xattn", "sums over antidiagonals, mma.sync; sm_80 and newer"},
    {"pattern_xattn_wgmma", "pattern_xattn", "sums over antidiagonals, warpgroup MMA; sm_90a only"},
    {NULL, NULL, NULL}};

const struct schema_param schema_params[] = {
    {"score", "stages", 2, 8, "tiles in flight"},
    {"score", "stats_block_m", 16, 256, "first pass: (head, window query) rows a block; 16 or more a warp"},
    {"score", "stats_block_n", 16, 256, "first pass: keys a step; a divisor of 256"},
    {"score", "stats_warps", 1, 16, "first pass: warps a block"},
    {"score", "sum_block_m", 16, 256, "second pass: keys a block; 16 a warp"},
    {"score", "sum_block_n", 16, 256, "second pass: window queries a step"},
    {"score", "sum_warps", 1, 16, "second pass: warps a block"},

    {"score_wgmma", "stages", 2, 12, "tiles in flight"},
    {"score_wgmma", "stats_block_n", 16, 256, "first pass: keys a step; a divisor of 256"},
    {"score_wgmma", "stats_warpgroups", 1, 4, "first pass: warpgroups a block, 64 (head, window query) rows each"},
    {"score_wgmma", "sum_block_n", 16, 64, "second pass: window queries a step; a divisor of 64"},
    {"score_wgmma", "sum_warpgroups", 1, 4, "second pass: warpgroups a block, 64 keys each"},

    {"select", "block_m", 32, 256, "tokens a block pools; a multiple of 32"},
    {"select", "budget_cluster", 1, 8, "blocks that share a long sequence's budget, as a cluster; 1 before sm_90a"},
    {"select", "cluster", 1, 8, "blocks that share a long list to choose from, as a cluster; 1 before sm_90a"},
    {"select", "held", 8, 64, "scores a thread that chooses keeps in registers, half as many for the budget; a multiple of 8"},
    {"select", "pool_threads", 32, 1024, "threads a block that pools; its warps share the heads"},
    {"select", "threads", 32, 1024, "threads a block of budget and choice"},

    {"compress", "block_m", 1, 1024, "rows a block copies; at most 32 a warp"},
    {"compress", "threads", 32, 1024, "threads a block"},

    {"attend", "block_m", 16, 256, "queries a block; a multiple of 16 a warp"},
    {"attend", "block_n", 16, 256, "keys a step"},
    {"attend", "lazy_max", 0, 1, "1: look for a row's maximum only where probabilities would not fit otherwise"},
    {"attend", "q_in_registers", 0, 1, "1: keep Q in registers, where the accumulators leave room; 0: read it each step"},
    {"attend", "rescale_threshold", 0, 32, "rescale sums only when a maximum rises by more, in log2 units"},
    {"attend", "stages", 1, 8, "K and V tiles in flight; 1: V loads under Q K^T, the next K under P V"},
    {"attend", "tile_barriers", 0, 1, "1: warps wait for a tile, not for each other; stages of 2 or more"},
    {"attend", "warps", 1, 16, "warps a block"},

    {"attend_wgmma", "block_m", 64, 256, "queries a block; 64 a computing warpgroup"},
    {"attend_wgmma", "block_n", 16, 256, "keys a step"},
    {"attend_wgmma", "consumer_registers", 24, 256, "registers a computing thread; a multiple of 8"},
    {"attend_wgmma", "exp2_emulation", 0, 100, "percent of the exponentials computed by polynomial"},
    {"attend_wgmma", "lazy_max", 0, 1, "1: look for a row's maximum only where probabilities would not fit otherwise"},
    {"attend_wgmma", "overlap", 0, 1, "1: a warpgroup's next S = Q K^T runs under its softmax"},
    {"attend_wgmma", "ping_pong", 0, 1, "1: computing warpgroups take turns on the tensor cores"},
    {"attend_wgmma", "producer_registers", 24, 256, "registers a loading thread; a multiple of 8"},
    {"attend_wgmma", "rescale_threshold", 0, 32, "rescale sums only when a maximum rises by more, in log2 units"},
    {"attend_wgmma", "section_mib", 1, 1024, "MiB of K and V whose heads are worked on together, to stay in L2"},
    {"attend_wgmma", "stages", 1, 8, "K tiles in flight, and as many V tiles"},
    {"attend_wgmma", "sum_by_product", 0, 1, "1: row sums by a column of ones behind V, not by additions; head_dim 64"},
    {"attend_wgmma", "warpgroups", 1, 4, "computing warpgroups a block"},

    {"decompress", "block_m", 32, 4096, "tokens a block writes; a multiple of 32 for each warp"},
    {"decompress", "threads", 32, 1024, "threads a block"},

    {"drift", "flight", 1, 8, "16-byte loads of a thread under way at once"},
    {"drift", "threads", 32, 1024, "threads a block, one row a warp"},

    {"blocks", "order_threads", 32, 1024, "threads that put the tiles of a section of heads in order"},
    {"blocks", "threads", 32, 1024, "threads a block that makes lists, a warp each"},

    {"attend_blocks", "block_n", 16, 128, "keys a step; a divisor of a block's 128"},
    {"attend_blocks", "lazy_max", 0, 1, "1: look for a row's maximum only where probabilities would not fit otherwise"},
    {"attend_blocks", "q_in_registers", 0, 1, "1: keep Q in registers, where there is room; 0: read it each step"},
    {"attend_blocks", "rescale_threshold", 0, 32, "rescale sums only when a maximum rises by more, in log2 units"},
    {"attend_blocks", "stages", 1, 8, "K and V tiles in flight; 1: V loads under Q K^T, the next K under P V"},
    {"attend_blocks", "warps", 1, 8, "warps a block, which share its 128 queries"},

    {"attend_blocks_wgmma", "block_n", 32, 128, "keys a step; a divisor of a block's 128"},
    {"attend_blocks_wgmma", "consumer_registers", 24, 256, "registers a computing thread; a multiple of 8"},
    {"attend_blocks_wgmma", "lazy_max", 0, 1, "1: look for a row's maximum only where probabilities would not fit otherwise"},
    {"attend_blocks_wgmma", "ping_pong", 0, 1, "1: the two computing warpgroups take turns on the tensor cores"},
    {"attend_blocks_wgmma", "producer_registers", 24, 256, "registers a loading thread; a multiple of 8"},
    {"attend_blocks_wgmma", "q_in_registers", 0, 1, "1: keep Q in registers; 0: read it from shared memory each step"},
    {"attend_blocks_wgmma", "rescale_threshold", 0, 32, "rescale sums only when a maximum rises by more, in log2 units"},
    {"attend_blocks_wgmma", "stages", 1, 4, "K tiles in flight, and as many V tiles"},

    {"pattern", "choose_threads", 32, 1024, "threads that choose a query block's list"},
    {"pattern", "means_threads", 32, 1024, "threads that add up a block's rows; one or more for each 16 bytes of a row"},
    {"pattern", "threads", 32, 1024, "threads a block that lists sliding windows, a warp a list"},

    {"pattern_lines", "block_n", 16, 64, "keys a step; a power of two"},
    {"pattern_lines", "stages", 2, 8, "tiles in flight"},

    {"pattern_heads", "row_threads", 32, 1024, "threads a query block, or a warp a list"},
    {"pattern_heads", "threads", 256, 1024, "threads a head"},

    {"pattern_xattn", "blocks", 1, 2, "blocks an SM"},
    {"pattern_xattn", "depth", 32, 256, "elements of a row a step; a divisor of head_dim and a multiple of 32"},
    {"pattern_xattn", "stages", 2, 8, "steps in flight"},

    {"pattern_xattn_wgmma", "block_n", 32, 256, "columns of a tile; a multiple of 32"},
    {"pattern_xattn_wgmma", "consumer_registers", 24, 256, "registers a computing thread; a multiple of 8"},
    {"pattern_xattn_wgmma", "producer_registers", 24, 256, "registers a loading thread; a multiple of 8"},
    {"pattern_xattn_wgmma", "stages", 4, 8, "steps in flight"},
    {NULL, NULL, 0, 0, NULL}};

/* ---- looking up */

int schema_find(enum schema_section section, const char *key)
{
    for (int i = 0; i < schema_key_count; i++)
        if (schema_keys[i].section == section && strcmp(schema_keys[i].key, key) == 0) return i;
    return -1;
}

const char *schema_section_name(enum schema_section section)
{
    static const char *const names[] = {[SCHEMA_SPEC] = "the spec", [SCHEMA_ATTENTION] = "attention",
                                        [SCHEMA_SELECTION] = "selection", [SCHEMA_PATTERN] = "pattern",
                                        [SCHEMA_TILE_LIST] = "the tile list", [SCHEMA_TILE] = "the tile entry"};
    return names[section];
}

const struct schema_template *schema_template_find(const char *name)
{
    for (const struct schema_template *at = schema_templates; at->name; at++)
        if (strcmp(at->name, name) == 0) return at;
    return NULL;
}

const struct schema_param *schema_param_find(const char *template_name, const char *name)
{
    for (const struct schema_param *at = schema_params; at->name; at++)
        if (strcmp(at->template_name, template_name) == 0 && strcmp(at->name, name) == 0) return at;
    return NULL;
}

const char *spec_dtype_name(tamis_dtype dtype) { return dtype_words[dtype]; }
const char *spec_policy_name(tamis_policy policy) { return policy_words[policy]; }
const char *spec_scope_name(tamis_scope scope) { return scope_words[scope]; }

bool spec_dtype_from_name(tamis_dtype *out, const char *name)
{
    for (int i = 0; dtype_words[i]; i++)
        if (strcmp(dtype_words[i], name) == 0) {
            *out = (tamis_dtype)i;
            return true;
        }
    return false;
}

/* ---- as text */

/* "a, b or c" */
static void join_words(char *out, size_t size, const char *const *words)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; words[i] && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
}

/* "a number above 0 and at most 1" */
static void expect_real(char *out, size_t size, const struct schema_key *key)
{
    snprintf(out, size, "a number %s %g and %s %g", key->flags & SCHEMA_ABOVE_LOW ? "above" : "of at least", key->low,
             key->flags & SCHEMA_BELOW_HIGH ? "below" : "at most", key->high);
}

void schema_expect_mapping(char *out, size_t size, enum schema_section section)
{
    size_t used = (size_t)snprintf(out, size, "a mapping with keys");
    const char *comma = "";
    for (int i = 0; i < schema_key_count && used < size; i++) {
        if (schema_keys[i].section != section) continue;
        used += (size_t)snprintf(out + used, size - used, "%s %s", comma, schema_keys[i].key);
        comma = ",";
    }
}

void schema_expect(char *out, size_t size, const struct schema_key *key)
{
    switch (key->type) {
    case SCHEMA_NAME:
        snprintf(out, size, "a name of at most %zu characters a-z, 0-9, _, '.' and '-'", key->bytes - 1);
        return;
    case SCHEMA_TEXT: snprintf(out, size, "printable text of at most %zu bytes", key->bytes - 1); return;
    case SCHEMA_REAL: expect_real(out, size, key); return;
    case SCHEMA_LAYERS: snprintf(out, size, "layers as in 15-30 or [14, 15, 20-37]"); return;
    case SCHEMA_MAPPING: schema_expect_mapping(out, size, key->inner); return;
    case SCHEMA_TILES:
        snprintf(out, size, "a list of tile entries%s", key->section == SCHEMA_SPEC ? " and files" : "");
        return;
    case SCHEMA_PARAMS: snprintf(out, size, "a mapping of tile parameters"); return;
    default: break;
    }
    if (key->words)
        join_words(out, size, key->words);
    else
        snprintf(out, size, "an %sinteger from %.0f to %.0f", key->flags & SCHEMA_ODD ? "odd " : "", key->low,
                 key->high);
}

static void list_key(struct tamisi_buf *out, const struct schema_key *key)
{
    char expected[160];
    schema_expect(expected, sizeof expected, key);
    tamisi_buf_printf(out, "  %-14s %s%s", key->key, key->most ? "one or a list of: " : "", expected);
    if (key->otherwise)
        tamisi_buf_printf(out, "; %s where not given", key->otherwise);
    else if (!(key->flags & SCHEMA_REQUIRED))
        tamisi_buf_puts(out, "; may be left out");
    tamisi_buf_printf(out, "\n  %-14s %s\n", "", key->meaning);
}

void schema_list(struct tamisi_buf *out)
{
    for (int i = 0; i < schema_key_count; i++) {
        if (i == 0 || schema_keys[i].section != schema_keys[i - 1].section)
            tamisi_buf_printf(out, "%s%s\n", i ? "\n" : "", schema_section_name(schema_keys[i].section));
        list_key(out, &schema_keys[i]);
    }
    for (const struct schema_template *at = schema_templates; at->name; at++) {
        tamisi_buf_printf(out, "\nparams of template %s, family %s: %s\n", at->name, at->family, at->meaning);
        for (const struct schema_param *param = schema_params; param->name; param++)
            if (strcmp(param->template_name, at->name) == 0)
                tamisi_buf_printf(out, "  %-18s %ld..%ld  %s\n", param->name, param->low, param->high, param->meaning);
    }
}
