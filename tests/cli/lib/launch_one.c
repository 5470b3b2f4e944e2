/*
 * launch_one.c: a host of the sources that tamis export --c writes: choose, load, launch every stage, make the lists of every
 * pattern, unload, on the libcuda that is none. C11 and C++17. Arguments: the dtype (0, 1), head dim, compute capability and
 * architecture wanted.
 */
#include "fake_cuda.h"
#include "tamis_kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct fake_cuda_launch *seen;
static struct fake_cuda_launch last;
static const struct tamis_kernels *listing; /* whose stages are printed as they are launched */
static long long launches;

static void need(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "launch_one: %s\n", what);
    exit(1);
}

static void look_up(void *function, void *library, const char *name)
{
    void *address = dlsym(library, name);

    need(address != NULL, name);
    memcpy(function, &address, sizeof address);
}

static void watch(void *payload, const struct fake_cuda_launch *launch)
{
    (void)payload;
    last = *launch;
    seen = &last;
    launches++;
    for (int i = 0; listing && i < listing->count; i++)
        if (strcmp(listing->entries[i]->symbol, launch->symbol) == 0) printf(" %s", listing->entries[i]->stage);
}

/* A context, made current as a host does it. */
static void open_context(void *library)
{
    int (*init)(unsigned), (*retain)(void **, int), (*push)(void *);
    void *context = NULL;

    look_up(&init, library, "cuInit");
    look_up(&retain, library, "cuDevicePrimaryCtxRetain");
    look_up(&push, library, "cuCtxPushCurrent_v2");
    need(init(0) == 0 && retain(&context, 0) == 0 && push(context) == 0, "no context");
}

static void check_table(void)
{
    const struct tamis_kernels_spec *spec;
    int i;

    need(tamis_kernels_spec_pattern("no such model") == NULL, "a pattern of no model");
    for (spec = tamis_kernels_specs; spec->spec; spec++) {
        need(tamis_kernels_spec_pattern(spec->spec) == &spec->pattern, "a model's pattern is not found");
        printf("%s: names %d, %.17g\n", spec->spec, spec->pattern.kind, spec->pattern.gamma);
    }
    need(tamis_kernels_count > 0, "the table is empty");
    for (i = 0; i < tamis_kernels_count; i++)
        need(tamis_kernels_args_bytes(tamis_kernels_table[i].stage) > 0, "the launcher does not know a stage of the table");
    need(tamis_kernels_args_bytes("attnd") == 0, "a stage that is none has a size");
    need(tamis_kernels_arch(7, 5) == NULL, "kernels for compute capability 7.5");
}

/* Where loading fails half-way nothing stays loaded. */
static void check_failure(void *library, const struct tamis_kernels_driver *driver, const char *arch, int dtype, int head_dim)
{
    struct tamis_kernels kernels;
    struct fake_cuda_counts counts;
    fake_cuda_fail_fn *fail;
    fake_cuda_counts_fn *count;

    look_up(&fail, library, "fake_cuda_fail");
    look_up(&count, library, "fake_cuda_counts");
    fail("cuLibraryGetKernel", 3, 500);
    need(tamis_kernels_load(&kernels, driver, NULL, arch, dtype, head_dim) == 500, "a failed load is not reported");
    count(&counts);
    need(counts.libraries == 0 && kernels.count == 0, "a failed load leaves libraries behind");
    need(tamis_kernels_load(&kernels, driver, NULL, arch, dtype, 80) != 0 || !tamis_kernels_find(&kernels, "attend"),
         "attention for head dim 80");
    tamis_kernels_unload(&kernels);
    need(tamis_kernels_load(&kernels, driver, "no such model", arch, dtype, head_dim) == TAMIS_KERNELS_NO_KERNEL, "no spec");
    need(tamis_kernels_load(&kernels, driver, NULL, NULL, dtype, head_dim) == TAMIS_KERNELS_NO_KERNEL, "no architecture");
}

static void launch_stage(const struct tamis_kernels *kernels, const struct tamis_kernels_entry *entry)
{
    static struct tamis_attend_map_tma_args args; /* the largest, all zeros */
    const size_t bytes = tamis_kernels_args_bytes(entry->stage);

    need(tamis_kernels_find(kernels, entry->stage) == entry, "a stage is served by another kernel");
    need(bytes <= sizeof args, "a larger struct");
    need(tamis_kernels_launch(kernels, entry->stage, 1, 1, 1, &args, bytes + 1, NULL) == TAMIS_KERNELS_ARGUMENTS, "size");
    seen = NULL;
    need(tamis_kernels_launch(kernels, entry->stage, 5, 3, 2, &args, bytes, NULL) == 0, "a launch failed");
    need(seen != NULL && strcmp(last.symbol, entry->symbol) == 0, "another kernel was launched");
    need(last.grid[0] == 5 && last.grid[1] == 3 && last.grid[2] == 2, "another grid");
    need(last.block[0] == (unsigned)entry->threads && last.shared_bytes == (unsigned)entry->shared_bytes, "another block");
    printf("%s %s %s\n", entry->stage, entry->symbol, entry->arch);
}

/* Where there are clusters. */
static void launch_cluster(const struct tamis_kernels *kernels)
{
    static struct tamis_budget_args args;
    const struct tamis_kernels_entry *entry = tamis_kernels_find(kernels, "select_budget");

    need(entry != NULL, "no select_budget");
    need(tamis_kernels_launch_clusters(kernels, "select_budgt", 8, 8, 1, 1, &args, sizeof args, NULL) ==
             TAMIS_KERNELS_NO_KERNEL, "clusters of a wrong stage");
    need(tamis_kernels_launch_clusters(kernels, "select_budget", 8, 8, 1, 1, &args, sizeof args - 1, NULL) ==
             TAMIS_KERNELS_ARGUMENTS, "clusters of another size");
    need(tamis_kernels_launch_clusters(kernels, "select_budget", 8, 16, 3, 1, &args, sizeof args, NULL) == 0, "no clusters");
    need(strcmp(last.symbol, entry->symbol) == 0 && last.cluster[0] == 8 && last.grid[0] == 16 && last.grid[1] == 3 &&
             last.block[0] == (unsigned)entry->threads && last.shared_bytes == (unsigned)entry->shared_bytes,
         "another launch of clusters");
}

/* A parameter out of its range makes no lists, and no launch. */
static void check_ranges(const struct tamis_kernels *kernels, const struct tamis_pattern_source *source,
                         struct tamis_block_lists *lists, void *scratch)
{
    struct tamis_kernels_pattern wrong[10];
    const long long before = launches;
    int i;

    for (i = 0; i < 10; i++) tamis_kernels_pattern_init(&wrong[i], TAMIS_KERNELS_SLIDING + i / 2);
    wrong[0].sink_tokens = -1, wrong[1].window_tokens = 0;
    wrong[2].last_queries = 129, wrong[3].coverage = 1.5;
    wrong[4].gamma = 0, wrong[5].tau = -1;
    wrong[6].stride = 0, wrong[7].stride = 12;
    wrong[8].blocks = -1, wrong[9].ratio = 0;
    for (i = 0; i < 10; i++) {
        need(tamis_kernels_lists_bytes(kernels, &wrong[i], source, 4) == 0, "scratch for a wrong pattern");
        need(tamis_kernels_make_lists(kernels, &wrong[i], source, lists, scratch, 4, NULL) == TAMIS_KERNELS_ARGUMENTS,
             "a wrong pattern");
    }
    need(launches == before, "a wrong pattern is launched");
}

/* Stages in their order; of what is not loaded, none. */
static void check_lists(const struct tamis_kernels *kernels)
{
    static const char *const names[] = {"sliding", "vertical_slash", "flexprefill", "xattention", "topk_blocks"};
    static struct tamis_tensor_map memory; /* aligned as tensors are */
    const int loaded = tamis_kernels_find(kernels, "pattern_sliding") != NULL;
    struct tamis_kernels_pattern pattern;
    struct tamis_pattern_source source;
    struct tamis_block_lists lists;
    int kind, code;

    memset(&source, 0, sizeof source);
    memset(&lists, 0, sizeof lists);
    source.capacity = source.seq_len = 1000;
    source.batch = 1;
    source.q_heads = source.compact_heads = source.kv_heads = source.index_heads = 2;
    source.q.data = source.k.data = &memory;
    source.q.row_stride = source.k.row_stride = 128;
    source.q.head_stride = source.k.head_stride = source.q.batch_stride = source.k.batch_stride = 128000;
    lists.tiles = lists.row = 8;
    for (kind = 0; kind <= TAMIS_KERNELS_TOPK_BLOCKS + 1; kind++) {
        const long long before = launches;
        const int is_none = kind < TAMIS_KERNELS_SLIDING || kind > TAMIS_KERNELS_TOPK_BLOCKS;

        tamis_kernels_pattern_init(&pattern, kind);
        need((tamis_kernels_lists_bytes(kernels, &pattern, &source, 4) == 0) == is_none, "scratch of no size");
        listing = kernels;
        if (loaded && !is_none) printf("%s:", names[kind - TAMIS_KERNELS_SLIDING]);
        code = tamis_kernels_make_lists(kernels, &pattern, &source, &lists, &memory, 4, NULL);
        listing = NULL;
        if (loaded && !is_none) puts("");
        need((lists.masks == NULL) == (kind != TAMIS_KERNELS_SLIDING), "masks of another pattern");
        if (is_none) need(code == TAMIS_KERNELS_ARGUMENTS, "a pattern of no kind");
        else need(code == (loaded ? 0 : TAMIS_KERNELS_NO_KERNEL), "lists are not made");
        need((launches > before) == (code == 0), "a failure launches");
    }
    check_ranges(kernels, &source, &lists, &memory);
}

int main(int argc, char **argv)
{
    struct tamis_kernels_driver driver;
    struct tamis_kernels kernels;
    struct fake_cuda_counts counts;
    fake_cuda_counts_fn *count;
    fake_cuda_watch_fn *set_watch;
    const char *arch;
    int i, loaded;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);

    need(argc == 6, "arguments: DTYPE HEAD_DIM MAJOR MINOR ARCH");
    need(library != NULL, "no libcuda.so.1");
    look_up(&count, library, "fake_cuda_counts");
    look_up(&set_watch, library, "fake_cuda_watch");
    open_context(library);
    need(tamis_kernels_open(&driver) == 0, "the driver does not open");
    check_table();
    arch = tamis_kernels_arch(atoi(argv[3]), atoi(argv[4]));
    need(arch != NULL && strcmp(arch, argv[5]) == 0, "another architecture is chosen");
    check_failure(library, &driver, arch, atoi(argv[1]), atoi(argv[2]));

    need(tamis_kernels_load(&kernels, &driver, NULL, arch, atoi(argv[1]), atoi(argv[2])) == 0, "loading failed");
    set_watch(watch, NULL);
    loaded = kernels.count;
    for (i = 0; i < loaded; i++) launch_stage(&kernels, kernels.entries[i]);
    need(launches == loaded, "launches that were not asked for");
    if (strcmp(arch, "sm_90a") == 0) launch_cluster(&kernels);
    check_lists(&kernels);
    need(tamis_kernels_launch(&kernels, "attnd", 1, 1, 1, &driver, 8, NULL) == TAMIS_KERNELS_NO_KERNEL, "a wrong stage");
    need(strcmp(tamis_kernels_error(TAMIS_KERNELS_NO_KERNEL), tamis_kernels_error(0)) != 0, "errors read alike");
    tamis_kernels_unload(&kernels);
    count(&counts);
    if (counts.misuses > 0) fprintf(stderr, "launch_one: %s\n", counts.misuse);
    need(counts.misuses == 0 && counts.libraries == 0 && counts.launches == launches, "the driver was misused");
    return 0;
}
