/*
 * launch_map.c: attention with an output map on all tokens, by the launcher; see launch_patterns.c.
 */
#include "launch_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void launch_map(const void *matrices)
{
    const struct tamis_attend_args attend = {.q = q, .k = k, .v = v, .output = output, .seq_len = LENGTH, .capacity = LENGTH,
                                             .lse_rows = LENGTH, .q_heads = q_heads, .kv_heads = kv_heads,
                                             .compact_heads = kv_heads, .index_heads = q_heads, .causal = 1,
                                             .scale_log2 = (float)(1 / sqrt(head_dim) * LOG2_E)};
    const struct tamis_kernels_entry *entry = tamis_kernels_find(&kernels, "attend_map_tma");
    if (!entry) {
        struct tamis_attend_map_args args = {.attend = attend, .output_map = matrices};
        launch("attend_map", tiles_of("attend_map", LENGTH), q_heads, BATCH, &args);
        return;
    }
    const struct tamis_rows rows = {(void *)(uintptr_t)matrices, 0, (long long)head_dim * head_dim, head_dim};
    const int heads = BATCH * q_heads, tiles = (int)tiles_of("attend_map_tma", LENGTH), items = heads * tiles;
    const unsigned zero = 0;
    struct tamis_attend_map_tma_args args = {
        .run = {.attend = attend, .tiles = tiles, .heads = heads, .counter = device_copy(&zero, sizeof zero)}};
    int code = tamis_kernels_map(&args.run.q, &kernels, &q, BATCH, q_heads, LENGTH, entry->block_m);
    code |= tamis_kernels_map(&args.run.k, &kernels, &k, BATCH, kv_heads, LENGTH, entry->block_n);
    code |= tamis_kernels_map(&args.run.v, &kernels, &v, BATCH, kv_heads, LENGTH, entry->block_n);
    code |= tamis_kernels_map(&args.output_map, &kernels, &rows, 1, q_heads, head_dim, entry->block_n);
    need(code == 0, "maps");
    launch("attend_map_tma", items < sms ? items : sms, 1, 1, &args);
    need(tamis_stream_synchronize(context, NULL) == TAMIS_OK, "attend_map_tma");
    tamis_memory_free(context, args.run.counter);
}

void check_output_map(tamis_store *store)
{
    tamis_plan_options options = TAMIS_PLAN_OPTIONS_INIT;
    tamis_run_args args = TAMIS_RUN_ARGS_INIT;
    const size_t count = (size_t)(q_heads * head_dim * head_dim);
    uint16_t *matrices = malloc(2 * count);
    tamis_plan *plan;
    need(matrices != NULL, "out of memory");
    for (size_t i = 0; i < count; i++) matrices[i] = (uint16_t)(0x3c00 + random_bits() % 256 + (random_bits() & 0x8000));
    options.output_map = 1;
    need(tamis_plan_create_with(&plan, context, store, &problem, &options) == TAMIS_OK, "a plan");
    void *workspace = device_alloc(tamis_plan_workspace_bytes(plan)), *device = device_copy(matrices, 2 * count);
    uint16_t *plain = run_plain(store);
    args.q = tensor_of(&q), args.k = tensor_of(&k), args.v = tensor_of(&v), args.output = tensor_of(&output);
    args.output_map = device;
    poison_output();
    need(tamis_run(plan, &args, workspace, tamis_plan_workspace_bytes(plan), NULL) == TAMIS_OK, "the operator");
    uint16_t *wanted = read_output();
    need(memcmp(wanted, plain, bytes_of(q_heads)) != 0, "a map that is none");
    poison_output();
    launch_map(device);
    uint16_t *found = read_output();
    compare(wanted, found, "output map");
    free(matrices), free(plain), free(wanted), free(found);
    tamis_memory_free(context, workspace);
    tamis_memory_free(context, device);
    tamis_plan_free(plan);
}
