/*
 * gpu_maps.c: descriptions of tensors for the tensor copy engine, which the driver makes on the host alone. Below the files
 * that launch kernels.
 */
#include "gpu.h"

#include <string.h>

/* In bytes. A dimension of one element may come with any stride, which the driver would refuse: it gets a row's. */
static unsigned long long map_stride(long long stride, unsigned long long size, int head_dim)
{
    return 2 * (unsigned long long)(size > 1 ? stride : head_dim);
}

tamis_status tamisi_gpu_map(struct tamis_tensor_map *out, const tamis_plan *plan, const struct tamis_rows *tensor, int heads,
                            long long rows, int box_rows)
{
    const struct tamisi_gpu *gpu = plan->context->state;
    const tamis_problem *problem = &plan->problem;
    const int type = problem->dtype == TAMIS_BF16 ? TAMISI_CU_TENSOR_BFLOAT16 : TAMISI_CU_TENSOR_FLOAT16;
    const unsigned long long sizes[] = {(unsigned long long)problem->head_dim, (unsigned long long)rows,
                                        (unsigned long long)heads, (unsigned long long)problem->batch};
    const unsigned long long strides[] = {map_stride(tensor->row_stride, sizes[1], problem->head_dim),
                                          map_stride(tensor->head_stride, sizes[2], problem->head_dim),
                                          map_stride(tensor->batch_stride, sizes[3], problem->head_dim)};
    const unsigned box[] = {64, (unsigned)box_rows, 1, 1}, steps[] = {1, 1, 1, 1};
    struct tamisi_cu_tensor_map map;
    TAMIS_TRY(tamisi_cuda_check(gpu->cuda,
                                gpu->cuda->tensor_map_encode_tiled(&map, type, 4, tensor->data, sizes, strides, box, steps,
                                                                   TAMISI_CU_INTERLEAVE_NONE, TAMISI_CU_SWIZZLE_128B,
                                                                   TAMISI_CU_L2_PROMOTION_128B, TAMISI_CU_OOB_FILL_NONE),
                                "cannot describe a tensor to the copy engine"));
    _Static_assert(sizeof map == sizeof *out, "the kernel and the driver agree on a map");
    memcpy(out, &map, sizeof map);
    return TAMIS_OK;
}
