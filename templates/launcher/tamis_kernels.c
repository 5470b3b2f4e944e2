/* SPDX-License-Identifier: Apache-2.0 */
/* tamis_kernels.c: the launcher. Choosing is by the table's order alone; see tamis_kernels.h. */
#include "tamis_kernels.h"

#include <dlfcn.h>
#include <string.h>

#include "pattern_stages.inc"

const char *tamis_kernels_error(int code)
{
    switch (code) {
    case 0:
        return "no error";
    case TAMIS_KERNELS_NO_DRIVER:
        return "the NVIDIA driver is missing, or older than CUDA 12.0";
    case TAMIS_KERNELS_NO_KERNEL:
        return "there is no such kernel";
    case TAMIS_KERNELS_ARGUMENTS:
        return "the arguments are not of the stage's size, or not of a pattern";
    default:
        return "error of the driver";
    }
}

/* ---- the driver */

int tamis_kernels_open(struct tamis_kernels_driver *out)
{
    static const char *const names[] = {"cuLibraryLoadData",   "cuLibraryUnload",    "cuLibraryGetKernel",
                                        "cuKernelGetFunction", "cuFuncSetAttribute", "cuLaunchKernel",
                                        "cuLaunchKernelEx",    "cuTensorMapEncodeTiled"};
    void *const members[] = {&out->library_load_data,   &out->library_unload,     &out->library_get_kernel,
                             &out->kernel_get_function, &out->func_set_attribute, &out->launch_kernel,
                             &out->launch_kernel_ex,    &out->tensor_map_encode_tiled};
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    int i;

    memset(out, 0, sizeof *out);
    if (!library) return TAMIS_KERNELS_NO_DRIVER;
    for (i = 0; i < (int)(sizeof names / sizeof *names); i++) {
        void *address = dlsym(library, names[i]);

        if (!address) {
            dlclose(library);
            memset(out, 0, sizeof *out);
            return TAMIS_KERNELS_NO_DRIVER;
        }
        memcpy(members[i], &address, sizeof address); /* POSIX: a function's address fits a pointer to data */
    }
    return 0;
}

/* ---- choosing */

static int table_has_arch(const char *arch)
{
    int i;

    for (i = 0; i < tamis_kernels_count; i++)
        if (strcmp(tamis_kernels_table[i].arch, arch) == 0) return 1;
    return 0;
}

/* A device runs kernels of its own major number up to its own minor; those of sm_90a on 9.0 alone, which has no other. */
const char *tamis_kernels_arch(int major, int minor)
{
    static const struct {
        int major, minor;
        const char *arch;
    } archs[] = {{12, 0, "sm_120"}, {10, 0, "sm_100"}, {9, 0, "sm_90a"},
                 {8, 9, "sm_89"},   {8, 6, "sm_86"},   {8, 0, "sm_80"}};
    int i;

    for (i = 0; i < 6; i++)
        if (archs[i].major == major && archs[i].minor <= minor && table_has_arch(archs[i].arch)) return archs[i].arch;
    return NULL;
}

static int suits(const struct tamis_kernels_entry *entry, const char *spec, const char *arch, int dtype, int head_dim)
{
    return (!spec || strcmp(entry->spec, spec) == 0) && arch && strcmp(entry->arch, arch) == 0 &&
           (entry->dtype < 0 || entry->dtype == dtype) && (entry->head_dim == 0 || entry->head_dim == head_dim);
}

static int same_variant(const struct tamis_kernels_entry *a, const struct tamis_kernels_entry *b)
{
    return strcmp(a->variant, b->variant) == 0 && strcmp(a->spec, b->spec) == 0 && a->cubin == b->cubin;
}

/* 1: the family is served by another variant, which stands before this one in the table. */
static int is_late(const struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    int i;

    for (i = 0; i < kernels->count; i++)
        if (strcmp(kernels->entries[i]->family, entry->family) == 0) return !same_variant(kernels->entries[i], entry);
    return 0;
}

/* ---- loading */

/* The library that holds the entry; the kernels of a variant stand together, so it is the last one loaded or a new one. */
static int load_library(struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    const struct tamis_kernels_driver *driver = &kernels->driver;
    int code;

    if (kernels->count > 0 && kernels->entries[kernels->count - 1]->cubin == entry->cubin) return 0;
    code = driver->library_load_data(&kernels->libraries[kernels->library_count], entry->cubin, NULL, NULL, 0, NULL, NULL, 0);
    if (code == 0) kernels->library_count++;
    return code;
}

static int load_entry(struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    const int max_dynamic_shared = 8, unasked = 48 * 1024; /* CUfunction_attribute; what any block may have */
    const struct tamis_kernels_driver *driver = &kernels->driver;
    void *kernel = NULL, *function = NULL;
    int code;

    if (kernels->count == (int)(sizeof kernels->entries / sizeof *kernels->entries)) return TAMIS_KERNELS_NO_KERNEL;
    code = load_library(kernels, entry);
    if (code == 0) code = driver->library_get_kernel(&kernel, kernels->libraries[kernels->library_count - 1], entry->symbol);
    if (code == 0) code = driver->kernel_get_function(&function, kernel);
    if (code == 0 && entry->shared_bytes > unasked)
        code = driver->func_set_attribute(function, max_dynamic_shared, entry->shared_bytes);
    if (code != 0) return code;
    kernels->entries[kernels->count] = entry;
    kernels->functions[kernels->count++] = function;
    return 0;
}

int tamis_kernels_load(struct tamis_kernels *out, const struct tamis_kernels_driver *driver, const char *spec,
                       const char *arch, int dtype, int head_dim)
{
    int code = 0, i;

    memset(out, 0, sizeof *out);
    out->driver = *driver;
    out->dtype = dtype;
    out->head_dim = head_dim;
    for (i = 0; i < tamis_kernels_count && code == 0; i++) {
        const struct tamis_kernels_entry *entry = &tamis_kernels_table[i];

        if (suits(entry, spec, arch, dtype, head_dim) && !is_late(out, entry)) code = load_entry(out, entry);
    }
    if (code == 0 && out->count == 0) code = TAMIS_KERNELS_NO_KERNEL;
    if (code != 0) tamis_kernels_unload(out);
    return code;
}

void tamis_kernels_unload(struct tamis_kernels *kernels)
{
    while (kernels->library_count > 0) kernels->driver.library_unload(kernels->libraries[--kernels->library_count]);
    memset(kernels, 0, sizeof *kernels);
}

/* ---- launching */

size_t tamis_kernels_args_bytes(const char *stage)
{
    static const struct {
        const char *stage;
        size_t bytes;
    } stages[] = {{"score_stats", sizeof(struct tamis_score_args)},
                  {"score_stats_tma", sizeof(struct tamis_score_tma_args)},
                  {"score_merge", sizeof(struct tamis_score_args)},
                  {"score_sum", sizeof(struct tamis_score_args)},
                  {"score_sum_tma", sizeof(struct tamis_score_tma_args)},
                  {"select_pool", sizeof(struct tamis_pool_args)},
                  {"select_budget", sizeof(struct tamis_budget_args)},
                  {"select_tokens", sizeof(struct tamis_tokens_args)},
                  {"compress", sizeof(struct tamis_compress_args)},
                  {"attend", sizeof(struct tamis_attend_args)},
                  {"attend_tma", sizeof(struct tamis_attend_tma_args)},
                  {"attend_map", sizeof(struct tamis_attend_map_args)},
                  {"attend_map_tma", sizeof(struct tamis_attend_map_tma_args)},
                  {"decompress", sizeof(struct tamis_decompress_args)},
                  {"blocks_bits", sizeof(struct tamis_blocks_bits_args)},
                  {"blocks_rows", sizeof(struct tamis_blocks_rows_args)},
                  {"blocks_order", sizeof(struct tamis_blocks_order_args)},
                  {"attend_blocks", sizeof(struct tamis_attend_blocks_args)},
                  {"attend_blocks_tma", sizeof(struct tamis_attend_blocks_tma_args)},
                  {"pattern_sliding", sizeof(struct tamis_pattern_sliding_args)},
                  {"pattern_means", sizeof(struct tamis_pattern_means_args)},
                  {"pattern_products", sizeof(struct tamis_pattern_products_args)},
                  {"pattern_choose", sizeof(struct tamis_pattern_choose_args)},
                  {"pattern_stats", sizeof(struct tamis_pattern_lines_args)},
                  {"pattern_merge", sizeof(struct tamis_pattern_lines_args)},
                  {"pattern_lines", sizeof(struct tamis_pattern_lines_args)},
                  {"pattern_heads", sizeof(struct tamis_pattern_heads_args)},
                  {"pattern_soften", sizeof(struct tamis_pattern_pairs_args)},
                  {"pattern_cut", sizeof(struct tamis_pattern_pairs_args)},
                  {"pattern_lists", sizeof(struct tamis_pattern_pairs_args)},
                  {"pattern_xattn", sizeof(struct tamis_pattern_xattn_args)},
                  {"pattern_xattn_tma", sizeof(struct tamis_pattern_xattn_tma_args)}};
    size_t i;

    for (i = 0; i < sizeof stages / sizeof *stages; i++)
        if (strcmp(stages[i].stage, stage) == 0) return stages[i].bytes;
    return 0;
}

static int find_stage(const struct tamis_kernels *kernels, const char *stage)
{
    int i;

    for (i = 0; i < kernels->count; i++)
        if (strcmp(kernels->entries[i]->stage, stage) == 0) return i;
    return -1;
}

const struct tamis_kernels_entry *tamis_kernels_find(const struct tamis_kernels *kernels, const char *stage)
{
    const int at = find_stage(kernels, stage);

    return at < 0 ? NULL : kernels->entries[at];
}

int tamis_kernels_launch(const struct tamis_kernels *kernels, const char *stage, unsigned x, unsigned y, unsigned z,
                         void *args, size_t args_bytes, void *stream)
{
    const int at = find_stage(kernels, stage);
    const struct tamis_kernels_entry *entry;
    void *params[1];

    if (at < 0) return TAMIS_KERNELS_NO_KERNEL;
    if (args_bytes != tamis_kernels_args_bytes(stage)) return TAMIS_KERNELS_ARGUMENTS;
    entry = kernels->entries[at];
    params[0] = args;
    return kernels->driver.launch_kernel(kernels->functions[at], x, y, z, (unsigned)entry->threads, 1, 1,
                                         (unsigned)entry->shared_bytes, stream, params, NULL);
}

/* CUlaunchAttribute and CUlaunchConfig. */
struct launch_attribute {
    int id;
    unsigned long long value[8]; /* a union */
};
struct launch_config {
    unsigned grid[3], block[3], shared_bytes;
    void *stream;
    struct launch_attribute *attributes;
    unsigned attribute_count;
};

int tamis_kernels_launch_clusters(const struct tamis_kernels *kernels, const char *stage, unsigned cluster, unsigned x,
                                  unsigned y, unsigned z, void *args, size_t args_bytes, void *stream)
{
    const int at = find_stage(kernels, stage), cluster_dimension = 4; /* CUlaunchAttributeID */
    const unsigned dimensions[3] = {cluster, 1, 1};
    struct launch_attribute attribute;
    struct launch_config config;
    void *params[1];

    if (at < 0) return TAMIS_KERNELS_NO_KERNEL;
    if (args_bytes != tamis_kernels_args_bytes(stage)) return TAMIS_KERNELS_ARGUMENTS;
    memset(&attribute, 0, sizeof attribute);
    memset(&config, 0, sizeof config);
    attribute.id = cluster_dimension;
    memcpy(attribute.value, dimensions, sizeof dimensions);
    config.grid[0] = x;
    config.grid[1] = y;
    config.grid[2] = z;
    config.block[0] = (unsigned)kernels->entries[at]->threads;
    config.block[1] = config.block[2] = 1;
    config.shared_bytes = (unsigned)kernels->entries[at]->shared_bytes;
    config.stream = stream;
    config.attributes = &attribute;
    config.attribute_count = 1;
    params[0] = args;
    return kernels->driver.launch_kernel_ex(&config, kernels->functions[at], params, NULL);
}

/* ---- maps */

/* In bytes. A dimension of one element may come with any stride, which the driver would refuse: it gets a row's. */
static unsigned long long map_stride(long long stride, unsigned long long size, int head_dim)
{
    return 2 * (unsigned long long)(size > 1 ? stride : head_dim);
}

/* Of rows, or (`apart` above 1) of groups of so many, as a dimension more, of which boxes have a row each. */
static int make_map(struct tamis_tensor_map *out, const struct tamis_kernels *kernels, const struct tamis_rows *tensor,
                    int batch, int heads, long long rows, int apart, int box)
{
    const int bf16 = 9, fp16 = 6, swizzle_128 = 3, promotion_128 = 2; /* CUtensorMapDataType and so on */
    const int type = kernels->dtype == TAMIS_KERNELS_BF16 ? bf16 : fp16, skip = apart > 1 ? 0 : 1;
    const unsigned steps[5] = {1, 1, 1, 1, 1};
    unsigned long long extents[4], sizes[5], strides[4];
    long long distances[4];
    unsigned boxes[5] = {64, 1, 1, 1, 1};
    int i;

    extents[0] = (unsigned long long)apart;
    extents[1] = (unsigned long long)(rows / apart);
    extents[2] = (unsigned long long)heads;
    extents[3] = (unsigned long long)batch;
    distances[0] = tensor->row_stride;
    distances[1] = apart * tensor->row_stride;
    distances[2] = tensor->head_stride;
    distances[3] = tensor->batch_stride;
    sizes[0] = (unsigned long long)kernels->head_dim;
    for (i = skip; i < 4; i++) {
        sizes[1 + i - skip] = extents[i];
        strides[i - skip] = map_stride(distances[i], extents[i], kernels->head_dim);
    }
    boxes[2 - skip] = (unsigned)box;
    return kernels->driver.tensor_map_encode_tiled(out, type, (unsigned)(5 - skip), tensor->data, sizes, strides, boxes, steps,
                                                   0, swizzle_128, promotion_128, 0);
}

int tamis_kernels_map(struct tamis_tensor_map *out, const struct tamis_kernels *kernels, const struct tamis_rows *tensor,
                      int batch, int heads, long long rows, int box_rows)
{
    return make_map(out, kernels, tensor, batch, heads, rows, 1, box_rows);
}

/* ---- lists of blocks */

enum { SLIDING_MASKS = 5 }; /* that pattern_sliding writes */

void tamis_kernels_pattern_init(struct tamis_kernels_pattern *out, int kind)
{
    memset(out, 0, sizeof *out);
    out->kind = kind;
    out->sink_tokens = 128;
    out->window_tokens = 3968;
    out->last_queries = 64;
    out->vertical_lines = 1000;
    out->slash_lines = 6096;
    out->gamma = 0.95;
    out->tau = 0.1;
    out->min_tokens = 1024;
    out->stride = 16;
    out->threshold = 0.9;
    out->ratio = 0.1;
}

const struct tamis_kernels_pattern *tamis_kernels_spec_pattern(const char *spec)
{
    const struct tamis_kernels_spec *one;

    for (one = tamis_kernels_specs; one->spec; one++)
        if (strcmp(one->spec, spec) == 0) return &one->pattern;
    return NULL;
}

/* Where stages are put; `checks`: whether they are loaded, and no more. */
struct lists_host {
    const struct tamis_kernels *kernels;
    void *stream;
    int batch;
    int checks;
};

static const char *const pattern_stage_names[PATTERN_STAGES] = {
    "pattern_sliding", "pattern_means", "pattern_products", "pattern_choose", "pattern_stats", "pattern_merge",
    "pattern_lines",   "pattern_heads", "pattern_soften",   "pattern_cut",    "pattern_lists", "pattern_xattn",
    "pattern_xattn_tma"};

static int launch_pattern_stage(const void *host, enum pattern_stage stage, unsigned cluster, unsigned x, unsigned y,
                                unsigned z, void *args)
{
    const struct lists_host *self = (const struct lists_host *)host;
    const char *name = pattern_stage_names[stage];
    const size_t bytes = tamis_kernels_args_bytes(name);

    if (self->checks) return find_stage(self->kernels, name) < 0 ? TAMIS_KERNELS_NO_KERNEL : 0;
    if (cluster == 1) return tamis_kernels_launch(self->kernels, name, x, y, z, args, bytes, self->stream);
    return tamis_kernels_launch_clusters(self->kernels, name, cluster, x, y, z, args, bytes, self->stream);
}

static int get_pattern_blocks(const void *host, enum pattern_stage stage, int *block_m, int *block_n)
{
    const struct lists_host *self = (const struct lists_host *)host;
    const struct tamis_kernels_entry *entry = tamis_kernels_find(self->kernels, pattern_stage_names[stage]);

    if (!entry) return 0;
    *block_m = entry->block_m;
    *block_n = entry->block_n;
    return 1;
}

static int get_pattern_map(const void *host, struct tamis_tensor_map *out, const struct tamis_rows *tensor, int heads,
                           long long rows, int apart, int box_groups)
{
    const struct lists_host *self = (const struct lists_host *)host;

    return self->checks ? 0 : make_map(out, self->kernels, tensor, self->batch, heads, rows, apart, box_groups);
}

static int is_part(double value) { return value > 0 && value <= 1; }

/* A kind, with its parameters in their ranges. */
static int is_pattern(const struct tamis_kernels_pattern *p)
{
    switch (p->kind) {
    case TAMIS_KERNELS_SLIDING:
        return p->sink_tokens >= 0 && p->window_tokens >= 1;
    case TAMIS_KERNELS_VERTICAL_SLASH:
        return p->last_queries >= 1 && p->last_queries <= TAMIS_PATTERN_QUERIES && p->vertical_lines >= 0 &&
               p->slash_lines >= 0 && (p->coverage == 0 || is_part(p->coverage));
    case TAMIS_KERNELS_FLEXPREFILL:
        return is_part(p->gamma) && p->tau >= 0 && p->min_tokens >= 0 && p->max_tokens >= 0;
    case TAMIS_KERNELS_XATTENTION:
        return p->stride >= 4 && p->stride <= 64 && (p->stride & (p->stride - 1)) == 0 && is_part(p->threshold);
    case TAMIS_KERNELS_TOPK_BLOCKS:
        return p->blocks > 0 || (p->blocks == 0 && is_part(p->ratio));
    default:
        return 0;
    }
}

static void fill_maker(struct pattern_maker *out, const struct tamis_kernels *kernels,
                       const struct tamis_kernels_pattern *pattern, const struct tamis_pattern_source *source,
                       int multiprocessors)
{
    const int flexprefill = pattern->kind == TAMIS_KERNELS_FLEXPREFILL;
    struct pattern_needs needs;

    memset(out, 0, sizeof *out);
    needs.means = flexprefill || pattern->kind == TAMIS_KERNELS_TOPK_BLOCKS;
    needs.lines = flexprefill || pattern->kind == TAMIS_KERNELS_VERTICAL_SLASH;
    needs.stride = pattern->kind == TAMIS_KERNELS_XATTENTION ? pattern->stride : 0;
    out->source = source;
    out->shape.capacity = source->capacity;
    out->shape.batch = source->batch;
    out->shape.q_heads = source->q_heads;
    out->shape.compact_heads = source->compact_heads;
    out->shape.head_dim = kernels->head_dim;
    out->shape.multiprocessors = multiprocessors;
    pattern_cut_scratch(&out->parts, &out->shape, &needs);
}

size_t tamis_kernels_lists_bytes(const struct tamis_kernels *kernels, const struct tamis_kernels_pattern *pattern,
                                 const struct tamis_pattern_source *source, int multiprocessors)
{
    struct pattern_maker maker;

    if (!is_pattern(pattern)) return 0;
    if (pattern->kind == TAMIS_KERNELS_SLIDING) return SLIDING_MASKS * TAMIS_BLOCK_MASK_WORDS * sizeof(unsigned);
    fill_maker(&maker, kernels, pattern, source, multiprocessors);
    return maker.parts.bytes;
}

static int make_lists(const struct pattern_maker *maker, const struct tamis_kernels_pattern *pattern)
{
    switch (pattern->kind) {
    case TAMIS_KERNELS_SLIDING:
        return pattern_make_sliding(maker, (unsigned *)pattern_at(maker, 0), pattern->sink_tokens, pattern->window_tokens);
    case TAMIS_KERNELS_VERTICAL_SLASH:
        return pattern_make_vertical_slash(maker, pattern->last_queries, pattern->vertical_lines, pattern->slash_lines,
                                           pattern->coverage);
    case TAMIS_KERNELS_FLEXPREFILL:
        return pattern_make_flexprefill(maker, pattern->gamma, pattern->tau, pattern->min_tokens, pattern->max_tokens);
    case TAMIS_KERNELS_XATTENTION:
        return pattern_make_xattention(maker, pattern->stride, pattern->threshold);
    case TAMIS_KERNELS_TOPK_BLOCKS:
        return pattern_make_topk(maker, pattern->blocks, pattern->ratio);
    default:
        return TAMIS_KERNELS_ARGUMENTS;
    }
}

int tamis_kernels_make_lists(const struct tamis_kernels *kernels, const struct tamis_kernels_pattern *pattern,
                             const struct tamis_pattern_source *source, struct tamis_block_lists *lists, void *scratch,
                             int multiprocessors, void *stream)
{
    struct lists_host host;
    struct pattern_maker maker;
    int code;

    if (!is_pattern(pattern)) return TAMIS_KERNELS_ARGUMENTS;
    fill_maker(&maker, kernels, pattern, source, multiprocessors);
    host.kernels = kernels;
    host.stream = stream;
    host.batch = source->batch;
    host.checks = 1;
    maker.lists = lists;
    maker.base = (char *)scratch;
    maker.host = &host;
    maker.launch = launch_pattern_stage;
    maker.blocks = get_pattern_blocks;
    maker.map = get_pattern_map;
    lists->masks = pattern->kind == TAMIS_KERNELS_SLIDING ? (const unsigned *)scratch : NULL;
    lists->mask_count = pattern->kind == TAMIS_KERNELS_SLIDING ? SLIDING_MASKS : 0;
    code = make_lists(&maker, pattern);
    host.checks = 0;
    return code == 0 ? make_lists(&maker, pattern) : code;
}
