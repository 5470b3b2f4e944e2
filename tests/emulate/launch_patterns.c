/*
 * launch_patterns.c: a host of the sources that tamis export --c writes, with a block pattern of each kind, on all tokens and
 * on those that are kept, and with an output map: by the launcher alone it must get the bits of tamis_run, lists and masks and
 * all. On the emulated GPU, or a true one; the launcher's libcuda.so.1 and libtamis's are one. One line a check; ends with
 * "N passed, N failed".
 *
 *     launch_patterns STORE    which the sources are of, with kernels for patterns and output maps
 */
#include "launch_case.h"

#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILES = (LENGTH + 127) / 128, WORDS = 1, MASKS = 2, KINDS = TAMIS_PATTERN_TOPK_BLOCKS + 1 };

tamis_context *context;
tamis_problem problem = TAMIS_PROBLEM_INIT;
struct tamis_kernels kernels;
int sms, q_heads, kv_heads, head_dim;
struct tamis_rows q, k, v, output;
static int passed, failed;

void need(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "launch_patterns: %s: %s\n", what, tamis_last_error());
    exit(1);
}

void *device_alloc(size_t bytes)
{
    void *memory = NULL;
    need(tamis_memory_alloc(&memory, context, bytes > 0 ? bytes : 1) == TAMIS_OK, "memory");
    return memory;
}

void *device_copy(const void *host, size_t bytes)
{
    void *memory = device_alloc(bytes);
    need(tamis_memory_write(context, memory, host, bytes, NULL) == TAMIS_OK, "writing");
    return memory;
}

uint32_t random_bits(void)
{
    static uint32_t state = 1;
    state ^= state << 13;
    state ^= state >> 17;
    return state ^= state << 5;
}

/* ---- tensors */

static struct tamis_rows rows_of(void *data, int heads, long long rows)
{
    return (struct tamis_rows){data, heads * rows * head_dim, rows * head_dim, head_dim};
}

tamis_tensor tensor_of(const struct tamis_rows *rows)
{
    return (tamis_tensor){rows->data, rows->batch_stride, rows->head_stride, rows->row_stride};
}

size_t bytes_of(int heads) { return (size_t)BATCH * (size_t)heads * LENGTH * (size_t)head_dim * 2; }

static struct tamis_rows make_tensor(int heads)
{
    const size_t count = bytes_of(heads) / 2;
    uint16_t *host = malloc(2 * count);
    need(host != NULL, "out of memory");
    for (size_t i = 0; i < count; i++) host[i] = (uint16_t)(0x3f00 + random_bits() % 256 + (random_bits() & 0x8000)); /* bf16 */
    const struct tamis_rows rows = rows_of(device_copy(host, 2 * count), heads, LENGTH);
    free(host);
    return rows;
}

void poison_output(void)
{
    void *nan = malloc(bytes_of(q_heads));
    need(nan != NULL, "out of memory");
    memset(nan, 0xff, bytes_of(q_heads));
    need(tamis_memory_write(context, output.data, nan, bytes_of(q_heads), NULL) == TAMIS_OK, "writing");
    free(nan);
}

uint16_t *read_output(void)
{
    uint16_t *host = malloc(bytes_of(q_heads));
    need(host != NULL && tamis_memory_read(context, host, output.data, bytes_of(q_heads), NULL) == TAMIS_OK, "reading");
    return host;
}

/* ---- a host's own blocks, in each form */

static struct {
    int count[BATCH * 64 * TILES], list[BATCH * 64 * TILES * TILES];
    int64_t offsets[BATCH * 64 * TILES + 1];
    int32_t columns[BATCH * 64 * TILES * TILES];
    uint32_t bits[BATCH * 64 * TILES * WORDS];
} own;

static void fill_own(void)
{
    const int lists = BATCH * q_heads * TILES;
    memset(&own, 0, sizeof own);
    for (int row = 0; row < lists; row++) {
        int at = (int)own.offsets[row];
        for (int block = 0; block <= row % TILES; block++) {
            const int mask = (int)(random_bits() % (MASKS + 1)); /* 0: none */
            if (random_bits() % 3 == 0) continue;
            own.bits[row] |= 1u << block;
            own.list[row * TILES + own.count[row]++] = block | mask << TAMIS_BLOCK_BITS;
            own.columns[at++] = block | mask << TAMIS_BLOCK_BITS;
        }
        own.offsets[row + 1] = at;
    }
}

static void upload_own(tamis_blocks *out, tamis_blocks_form form)
{
    static uint32_t masks[MASKS * TAMIS_BLOCK_MASK_WORDS];
    const size_t lists = (size_t)(BATCH * q_heads * TILES);
    *out = (tamis_blocks)TAMIS_BLOCKS_INIT;
    if (form == TAMIS_BLOCKS_BITS) {
        out->bits = device_copy(own.bits, lists * sizeof *own.bits);
        return;
    }
    for (int i = 0; i < MASKS * TAMIS_BLOCK_MASK_WORDS; i++) masks[i] = random_bits();
    out->masks = device_copy(masks, sizeof masks);
    out->mask_count = MASKS;
    if (form == TAMIS_BLOCKS_LISTS) {
        out->count = device_copy(own.count, lists * sizeof *own.count);
        out->list = device_copy(own.list, lists * TILES * sizeof *own.list);
        return;
    }
    out->offsets = device_copy(own.offsets, (lists + 1) * sizeof *own.offsets);
    out->columns = device_copy(own.columns, sizeof own.columns);
    out->column_count = own.offsets[lists];
}

static void free_own(const tamis_blocks *blocks)
{
    const void *const all[] = {blocks->masks, blocks->count, blocks->list, blocks->bits, blocks->offsets, blocks->columns};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tamis_memory_free(context, (void *)(uintptr_t)all[i]);
}

/* ---- by the launcher */

void launch(const char *stage, long long x, long long y, long long z, void *args)
{
    const size_t bytes = tamis_kernels_args_bytes(stage);
    const int code = tamis_kernels_launch(&kernels, stage, (unsigned)x, (unsigned)y, (unsigned)z, args, bytes, NULL);
    if (code == 0) return;
    fprintf(stderr, "launch_patterns: %s: %d, %s\n", stage, code, tamis_kernels_error(code));
    exit(1);
}

long long tiles_of(const char *stage, long long rows)
{
    const struct tamis_kernels_entry *entry = tamis_kernels_find(&kernels, stage);
    need(entry != NULL, stage);
    return (rows + entry->block_m - 1) / entry->block_m;
}

static void compress(const struct tamis_attend_args *attend)
{
    struct tamis_compress_args args = {.tensors = {{k, attend->k, attend->compact_heads, kv_heads},
                                                   {v, attend->v, attend->compact_heads, kv_heads}},
                                       .kept = attend->kept,
                                       .indices = attend->indices,
                                       .seq_len = LENGTH,
                                       .capacity = attend->capacity,
                                       .index_heads = attend->index_heads,
                                       .head_run = attend->compact_heads / kv_heads,
                                       .skip_dense = 1};
    launch("compress", tiles_of("compress", attend->capacity) * args.head_run, 2 * attend->compact_heads / args.head_run, BATCH,
           &args);
}

/* The lists of a host's own form, or of the pattern. What it takes of memory is left in `scratch`. */
static struct tamis_block_lists make_lists(const struct tamis_attend_args *attend, const tamis_pattern *pattern,
                                           const tamis_blocks *blocks, void **scratch)
{
    struct tamis_block_lists lists = {.tiles = (int)((attend->capacity + 127) / 128), .masks = blocks->masks,
                                      .mask_count = blocks->mask_count};
    const size_t count = (size_t)(BATCH * q_heads * lists.tiles);
    lists.row = lists.tiles;
    if (pattern->kind == TAMIS_PATTERN_SLIDING) { /* no longer than it must be */
        const int row = (int)((pattern->sliding.sink_tokens + 127) / 128 + (pattern->sliding.window_tokens - 1) / 128 + 2);
        if (row < lists.row) lists.row = row;
    }
    lists.count = device_alloc(count * sizeof(int));
    lists.list = device_alloc(count * (size_t)lists.row * sizeof(int));
    if (pattern->kind == TAMIS_PATTERN_HOST_BLOCKS && pattern->host_blocks.form == TAMIS_BLOCKS_BITS) {
        struct tamis_blocks_bits_args args = {.lists = lists, .bits = blocks->bits, .words = WORDS, .q_heads = q_heads};
        launch("blocks_bits", tiles_of("blocks_bits", lists.tiles), q_heads, BATCH, &args);
    } else if (pattern->kind == TAMIS_PATTERN_HOST_BLOCKS) {
        struct tamis_blocks_rows_args args = {.lists = lists, .offsets = (const long long *)blocks->offsets,
                                              .columns = blocks->columns, .column_count = blocks->column_count,
                                              .q_heads = q_heads};
        launch("blocks_rows", tiles_of("blocks_rows", lists.tiles), q_heads, BATCH, &args);
    } else {
        const struct tamis_pattern_source source = {.q = attend->q, .k = attend->k, .k_full = attend->k_full,
                                                    .kept = attend->kept, .indices = attend->indices, .seq_len = LENGTH,
                                                    .capacity = attend->capacity, .batch = BATCH, .q_heads = q_heads,
                                                    .kv_heads = kv_heads, .compact_heads = attend->compact_heads,
                                                    .index_heads = attend->index_heads, .scale_log2 = attend->scale_log2};
        struct tamis_kernels_pattern wanted;
        tamis_kernels_pattern_init(&wanted, (int)pattern->kind);
        wanted.sink_tokens = pattern->sliding.sink_tokens; /* the rest, of either side, is as published */
        wanted.window_tokens = pattern->sliding.window_tokens;
        wanted.vertical_lines = pattern->vertical_slash.vertical_lines;
        wanted.slash_lines = pattern->vertical_slash.slash_lines;
        wanted.gamma = pattern->flexprefill.gamma;
        wanted.tau = pattern->flexprefill.tau;
        wanted.min_tokens = pattern->flexprefill.min_tokens;
        wanted.threshold = pattern->xattention.threshold;
        wanted.ratio = pattern->topk_blocks.ratio;
        *scratch = device_alloc(tamis_kernels_lists_bytes(&kernels, &wanted, &source, sms));
        need(tamis_kernels_make_lists(&kernels, &wanted, &source, &lists, *scratch, sms, NULL) == 0, "lists");
    }
    return lists;
}

static void attend_tma(const struct tamis_attend_args *attend, const struct tamis_block_lists *lists)
{
    const struct tamis_kernels_entry *entry = tamis_kernels_find(&kernels, "attend_blocks_tma");
    const int heads = BATCH * q_heads, items = heads * lists->tiles, section = q_heads / attend->compact_heads;
    unsigned *counter = device_alloc(sizeof *counter);
    int *order = device_alloc((size_t)items * sizeof *order);
    struct tamis_blocks_order_args ordered = {.count = lists->count, .kept = attend->kept, .order = order, .counter = counter,
                                              .seq_len = LENGTH, .tiles = lists->tiles, .heads = heads, .q_heads = q_heads,
                                              .section_heads = section};
    struct tamis_attend_blocks_tma_args args = {.attend = *attend, .blocks = *lists, .order = order, .heads = heads,
                                                .counter = counter};
    launch("blocks_order", (heads + section - 1) / section, 1, 1, &ordered);
    int code = 0;
    if (!attend->indices)
        code |= tamis_kernels_map(&args.q, &kernels, &attend->q, BATCH, q_heads, attend->capacity, entry->block_m);
    code |= tamis_kernels_map(&args.k, &kernels, &attend->k, BATCH, attend->compact_heads, attend->capacity, entry->block_n);
    code |= tamis_kernels_map(&args.v, &kernels, &attend->v, BATCH, attend->compact_heads, attend->capacity, entry->block_n);
    if (attend->k_full.data) {
        code |= tamis_kernels_map(&args.k_full, &kernels, &attend->k_full, BATCH, kv_heads, LENGTH, entry->block_n);
        code |= tamis_kernels_map(&args.v_full, &kernels, &attend->v_full, BATCH, kv_heads, LENGTH, entry->block_n);
    }
    need(code == 0, "maps");
    launch("attend_blocks_tma", items < sms ? items : sms, 1, 1, &args);
    need(tamis_stream_synchronize(context, NULL) == TAMIS_OK, "attend_blocks_tma");
    tamis_memory_free(context, counter);
    tamis_memory_free(context, order);
}

static void attend_blocks(const struct tamis_attend_args *attend, const struct tamis_block_lists *lists)
{
    struct tamis_attend_blocks_args args = {.attend = *attend, .blocks = *lists};
    struct tamis_decompress_args dropped = {.output = output, .kept = attend->kept, .indices = attend->indices,
                                            .seq_len = LENGTH, .capacity = attend->capacity, .q_heads = q_heads,
                                            .index_heads = attend->index_heads};
    launch("attend_blocks", lists->tiles, q_heads, BATCH, &args);
    if (attend->indices) launch("decompress", tiles_of("decompress", LENGTH), q_heads, BATCH, &dropped);
}

/* The operator from where its tokens are chosen; of a dense plan all of it. */
static void run_launcher(const tamis_plan *plan, const tamis_pattern *pattern, const tamis_blocks *blocks, int32_t *kept,
                         int32_t *indices)
{
    void *scratch = NULL;
    struct tamis_attend_args attend = {.q = q, .k = k, .v = v, .output = output, .seq_len = LENGTH, .capacity = LENGTH,
                                       .lse_rows = LENGTH, .q_heads = q_heads, .kv_heads = kv_heads, .compact_heads = kv_heads,
                                       .index_heads = tamis_plan_index_heads(plan), .causal = 1,
                                       .scale_log2 = (float)(1 / sqrt(head_dim) * LOG2_E)};
    if (indices) {
        const long long capacity = tamis_plan_capacity(plan), heads = tamis_plan_compact_heads(plan);
        attend.capacity = capacity;
        attend.compact_heads = (int)heads;
        attend.k = rows_of(device_alloc((size_t)(BATCH * heads * capacity * head_dim) * 2), (int)heads, capacity);
        attend.v = rows_of(device_alloc((size_t)(BATCH * heads * capacity * head_dim) * 2), (int)heads, capacity);
        attend.k_full = k;
        attend.v_full = v;
        attend.kept = kept;
        attend.indices = indices;
        compress(&attend);
    }
    struct tamis_block_lists lists = {.count = (int *)(uintptr_t)blocks->count, .list = (int *)(uintptr_t)blocks->list,
                                      .masks = blocks->masks, .mask_count = blocks->mask_count, .tiles = TILES, .row = TILES};
    const int is_given = blocks->count != NULL;
    if (!is_given) lists = make_lists(&attend, pattern, blocks, &scratch);
    if (tamis_kernels_find(&kernels, "attend_blocks_tma")) attend_tma(&attend, &lists);
    else attend_blocks(&attend, &lists);
    need(tamis_stream_synchronize(context, NULL) == TAMIS_OK, "the launcher's kernels");
    if (indices) tamis_memory_free(context, attend.k.data), tamis_memory_free(context, attend.v.data);
    if (!is_given) tamis_memory_free(context, lists.count), tamis_memory_free(context, lists.list);
    tamis_memory_free(context, scratch);
}

/* ---- against the library */

void compare(const uint16_t *wanted, const uint16_t *found, const char *format, ...)
{
    const size_t rows = (size_t)(BATCH * q_heads) * LENGTH, row_bytes = 2 * (size_t)head_dim;
    size_t wrong = 0;
    va_list arguments;
    for (size_t i = 0; i < rows; i++)
        wrong += memcmp(wanted + i * (size_t)head_dim, found + i * (size_t)head_dim, row_bytes) != 0;
    printf(wrong ? "FAILED " : "ok     ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    if (wrong) printf(": %zu of %zu rows are others", wrong, rows);
    puts("");
    *(wrong ? &failed : &passed) += 1;
}

static void need_dropped(const int32_t *kept)
{
    int32_t host[BATCH];
    need(tamis_memory_read(context, host, kept, sizeof host, NULL) == TAMIS_OK, "reading");
    for (int b = 0; b < BATCH; b++) need(host[b] < LENGTH, "no token is dropped");
}

/* `plain`: the output without a pattern, which another one must not be. */
static void check_pattern(tamis_store *store, const tamis_pattern *pattern, const char *name, const uint16_t *plain)
{
    const int is_dense = problem.selection.policy == TAMIS_DENSE;
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    tamis_blocks blocks = TAMIS_BLOCKS_INIT;
    tamis_plan *plan;
    options.pattern = pattern;
    need(tamis_plan_create_with(&plan, context, store, &problem, &options) == TAMIS_OK, "a plan");
    void *workspace = device_alloc(tamis_plan_workspace_bytes(plan));
    args.q = tensor_of(&q), args.k = tensor_of(&k), args.v = tensor_of(&v), args.output = tensor_of(&output);
    if (!is_dense) {
        args.kept = device_alloc(BATCH * sizeof *args.kept);
        args.indices = device_alloc((size_t)BATCH * (size_t)tamis_plan_index_heads(plan) * (size_t)tamis_plan_capacity(plan) *
                                    sizeof *args.indices);
    }
    if (pattern->kind == TAMIS_PATTERN_HOST_BLOCKS) {
        upload_own(&blocks, pattern->host_blocks.form);
        args.blocks = &blocks;
    }
    poison_output();
    need(tamis_run(plan, &args, workspace, tamis_plan_workspace_bytes(plan), NULL) == TAMIS_OK, "the operator");
    uint16_t *wanted = read_output();
    if (!is_dense) need_dropped(args.kept);
    poison_output();
    run_launcher(plan, pattern, &blocks, args.kept, args.indices);
    uint16_t *found = read_output();
    compare(wanted, found, "%s, %s", name, is_dense ? "all tokens" : "kept tokens");
    need(memcmp(wanted, plain, bytes_of(q_heads)) != 0, "a pattern that is none");
    free(wanted);
    free(found);
    free_own(&blocks);
    tamis_memory_free(context, args.kept);
    tamis_memory_free(context, args.indices);
    tamis_memory_free(context, workspace);
    tamis_plan_free(plan);
}

uint16_t *run_plain(tamis_store *store)
{
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    tamis_plan *plan;
    need(tamis_plan_create(&plan, context, store, &problem) == TAMIS_OK, "a plan");
    void *workspace = device_alloc(tamis_plan_workspace_bytes(plan));
    args.q = tensor_of(&q), args.k = tensor_of(&k), args.v = tensor_of(&v), args.output = tensor_of(&output);
    need(tamis_run(plan, &args, workspace, tamis_plan_workspace_bytes(plan), NULL) == TAMIS_OK, "the operator");
    uint16_t *plain = read_output();
    tamis_memory_free(context, workspace);
    tamis_plan_free(plan);
    return plain;
}

static void check_patterns(tamis_store *store)
{
    static const char *const names[] = {"", "", "sliding", "vertical_slash", "flexprefill", "xattention", "topk_blocks"};
    static const char *const forms[] = {"own lists", "own bits", "own index arrays"};
    tamis_pattern pattern = TAMIS_PATTERN_INIT;
    uint16_t *plain = run_plain(store);
    pattern.sliding.sink_tokens = 5;
    pattern.sliding.window_tokens = 150;
    pattern.vertical_slash.vertical_lines = pattern.vertical_slash.slash_lines = 10;
    pattern.flexprefill.gamma = 0.5;
    pattern.flexprefill.tau = 0.5; /* query-aware heads */
    pattern.flexprefill.min_tokens = 128;
    pattern.xattention.threshold = 0.5;
    pattern.topk_blocks.ratio = 0.3;
    for (int kind = TAMIS_PATTERN_SLIDING; kind < KINDS; kind++) {
        pattern.kind = (tamis_pattern_kind)kind;
        check_pattern(store, &pattern, names[kind], plain);
    }
    pattern.kind = TAMIS_PATTERN_HOST_BLOCKS;
    for (int form = TAMIS_BLOCKS_LISTS; form <= TAMIS_BLOCKS_ROWS && problem.selection.policy == TAMIS_DENSE; form++) {
        pattern.host_blocks.form = (tamis_blocks_form)form;
        check_pattern(store, &pattern, forms[form], plain);
    }
    free(plain);
}

/* ---- the device */

static void find_symbol(void *function, void *library, const char *name)
{
    void *address = dlsym(library, name);
    need(address != NULL, name);
    memcpy(function, &address, sizeof address);
}

/* The context that libtamis has, current on this thread; and the device's numbers. */
static void open_device(void)
{
    const int multiprocessors = 16, major = 75, minor = 76; /* CUdevice_attribute */
    int (*init)(unsigned), (*retain)(void **, int), (*push)(void *), (*attribute)(int *, int, int);
    int version[2] = {0, 0};
    void *primary = NULL, *library = dlopen("libcuda.so.1", RTLD_NOW);
    struct tamis_kernels_driver driver;
    need(library != NULL, "no libcuda.so.1");
    find_symbol(&init, library, "cuInit");
    find_symbol(&retain, library, "cuDevicePrimaryCtxRetain");
    find_symbol(&push, library, "cuCtxPushCurrent_v2");
    find_symbol(&attribute, library, "cuDeviceGetAttribute");
    need(init(0) == 0 && retain(&primary, 0) == 0 && push(primary) == 0, "no context");
    need(attribute(&sms, multiprocessors, 0) == 0 && attribute(&version[0], major, 0) == 0 &&
             attribute(&version[1], minor, 0) == 0, "no attributes");
    need(tamis_kernels_open(&driver) == 0, "the launcher's driver");
    need(tamis_kernels_load(&kernels, &driver, NULL, tamis_kernels_arch(version[0], version[1]), TAMIS_KERNELS_BF16,
                            head_dim) == 0, "the launcher's kernels do not load");
}

int main(int argc, char **argv)
{
    tamis_store_options options = TAMIS_STORE_OPTIONS_INIT;
    tamis_store *store;
    need(argc == 2, "usage: launch_patterns STORE");
    options.mode = TAMIS_STORE_READ;
    need(tamis_context_create(&context, NULL) == TAMIS_OK, "no GPU");
    need(tamis_store_open(&store, argv[1], &options) == TAMIS_OK, "no store");
    need(tamis_store_problem(&problem, store, NULL) == TAMIS_OK, "no spec");
    problem.batch = BATCH;
    problem.seq_len = LENGTH;
    q_heads = problem.q_heads, kv_heads = problem.kv_heads, head_dim = problem.head_dim;
    need(q_heads <= 64, "too many heads");
    open_device();
    q = make_tensor(q_heads), k = make_tensor(kv_heads), v = make_tensor(kv_heads), output = make_tensor(q_heads);
    fill_own();
    check_patterns(store); /* of the spec's selection */
    problem.selection.policy = TAMIS_DENSE;
    check_patterns(store);
    check_output_map(store);
    tamis_kernels_unload(&kernels);
    void *const all[] = {q.data, k.data, v.data, output.data};
    for (int i = 0; i < 4; i++) tamis_memory_free(context, all[i]);
    tamis_store_free(store);
    tamis_context_free(context);
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
