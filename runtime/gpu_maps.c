/*
 * gpu_maps.c: descriptions of tensors for the tensor copy engine. The driver makes them, on the host alone; a plan keeps them,
 * since a run takes five or more and workspace and tensors come again. Below the files that launch kernels.
 */
#include "gpu.h"

#include <string.h>

/* In bytes. A dimension of one element may come with any stride, which the driver would refuse: it gets a row's. */
static unsigned long long map_stride(long long stride, unsigned long long size, int head_dim)
{
    return 2 * (unsigned long long)(size > 1 ? stride : head_dim);
}

/* `apart`: 1, or of a map by groups the rows of one. */
static struct tamisi_map_key key_of(const struct tamis_rows *tensor, int heads, long long rows, int apart, int box_rows)
{
    return (struct tamisi_map_key){.address = (uintptr_t)tensor->data,
                                   .rows = (unsigned long long)rows,
                                   .heads = (unsigned long long)heads,
                                   .box_rows = (unsigned long long)box_rows,
                                   .apart = (unsigned long long)apart,
                                   .strides = {(unsigned long long)tensor->row_stride, (unsigned long long)tensor->head_stride,
                                               (unsigned long long)tensor->batch_stride}};
}

/* Dimensions from the innermost: D, a group's rows if rows come in groups, rows or groups, heads, B. */
static tamis_status make_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamisi_map_key *key)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const tamis_problem *problem = &plan->problem;
    const int type = problem->dtype == TAMIS_BF16 ? TAMISI_CU_TENSOR_BFLOAT16 : TAMISI_CU_TENSOR_FLOAT16;
    const unsigned skip = key->apart > 1 ? 0 : 1; /* of the second dimension */
    const unsigned long long extents[] = {key->apart, key->rows / key->apart, key->heads, (unsigned long long)problem->batch};
    const long long row = (long long)key->strides[0];
    const long long apart[] = {row, (long long)key->apart * row, (long long)key->strides[1], (long long)key->strides[2]};
    unsigned long long sizes[5] = {(unsigned long long)problem->head_dim}, strides[4];
    unsigned box[5] = {64, 1, 1, 1, 1};
    const unsigned steps[] = {1, 1, 1, 1, 1};
    for (unsigned i = skip; i < 4; i++) {
        sizes[1 + i - skip] = extents[i];
        strides[i - skip] = map_stride(apart[i], extents[i], problem->head_dim);
    }
    box[2 - skip] = (unsigned)key->box_rows;
    struct tamisi_cu_tensor_map map;
    TAMIS_TRY(tamisi_cuda_check(gpu->cuda,
                                gpu->cuda->tensor_map_encode_tiled(&map, type, 5 - skip, (void *)(uintptr_t)key->address, sizes,
                                                                   strides, box, steps,
                                                                   TAMISI_CU_INTERLEAVE_NONE, TAMISI_CU_SWIZZLE_128B,
                                                                   TAMISI_CU_L2_PROMOTION_128B, TAMISI_CU_OOB_FILL_NONE),
                                "cannot describe a tensor to the copy engine"));
    _Static_assert(sizeof map == sizeof *out, "the kernel and the driver agree on a map");
    memcpy(out, &map, sizeof map);
    return TAMIS_OK;
}

/* ---- what a plan keeps */

static struct tamisi_map_set *set_of(const tamis_plan *plan, const struct tamisi_map_key *key)
{
    struct tamisi_gpu_plan *loaded = plan->state;
    return &loaded->maps[key->address * 0x9e3779b97f4a7c15ull >> (64 - TAMISI_MAP_SETS_LOG2)]; /* Fibonacci hashing */
}

/* False: another thread is at the set. */
static bool enter_set(struct tamisi_map_set *set) { return !atomic_exchange_explicit(&set->busy, true, memory_order_acquire); }
static void leave_set(struct tamisi_map_set *set) { atomic_store_explicit(&set->busy, false, memory_order_release); }

static bool find_map(struct tamis_tensor_map *out, struct tamisi_map_set *set, const struct tamisi_map_key *key)
{
    int place = 0;
    if (!enter_set(set)) return false;
    while (place < TAMISI_MAP_WAYS && memcmp(&set->keys[place], key, sizeof *key) != 0) place++;
    const bool found = place < TAMISI_MAP_WAYS; /* the key of an empty place has boxes of no rows */
    if (found) {
        memcpy(out, &set->maps[place], sizeof *out);
        set->used[place] = ++set->clock;
    }
    leave_set(set);
    return found;
}

static void keep_map(struct tamisi_map_set *set, const struct tamisi_map_key *key, const struct tamis_tensor_map *map)
{
    int oldest = 0;
    if (!enter_set(set)) return;
    for (int i = 1; i < TAMISI_MAP_WAYS; i++) /* ages, as the clock may come round */
        if (set->clock - set->used[i] > set->clock - set->used[oldest]) oldest = i;
    set->keys[oldest] = *key;
    memcpy(&set->maps[oldest], map, sizeof *map);
    set->used[oldest] = ++set->clock;
    leave_set(set);
}

tamis_status tamisi_gpu_strided_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamis_rows *tensor,
                                    int heads, long long rows, int apart, int box_groups)
{
    const struct tamisi_map_key key = key_of(tensor, heads, rows, apart, box_groups);
    struct tamisi_map_set *set = set_of(plan, &key);
    if (find_map(out, set, &key)) return TAMIS_OK;
    TAMIS_TRY(make_map(out, plan, &key));
    keep_map(set, &key, out);
    return TAMIS_OK;
}

tamis_status tamisi_gpu_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamis_rows *tensor, int heads,
                            long long rows, int box_rows)
{
    return tamisi_gpu_strided_map(out, plan, tensor, heads, rows, 1, box_rows);
}
