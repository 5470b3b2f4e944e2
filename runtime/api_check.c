/*
 * api_check.c: the checks of api.h.
 */
#include "api.h"

#include <stdint.h>

#define TENSOR_ALIGN 16
#define STRIDE_ALIGN 8 /* elements of 2 bytes: rows stay aligned */
#define WORKSPACE_ALIGN 256

tamis_status tamisi_check_pointer(const void *pointer, const char *name)
{
    return pointer ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is NULL", name);
}

/* ----------------------------------------------------------------------------------------------------------- tensors */

/* The dimensions of a tensor before the last, and where its elements end. */
struct shape {
    int64_t sizes[3];   /* B, heads, rows */
    int64_t strides[3]; /* in elements */
    int64_t head_dim;
};

static struct shape shape_of(const tamis_plan *plan, const tamis_tensor *tensor, int heads, int64_t rows)
{
    return (struct shape){{plan->problem.batch, heads, rows},
                          {tensor->batch_stride, tensor->head_stride, tensor->token_stride},
                          plan->problem.head_dim};
}

static tamis_status check_strides(const struct shape *shape, const char *name)
{
    static const char *const members[] = {"batch_stride", "head_stride", "token_stride"};
    for (int i = 0; i < 3; i++) {
        if (shape->strides[i] < 0)
            return tamisi_fail(TAMIS_EINVAL, "%s.%s is %lld: it must not be negative", name, members[i],
                               (long long)shape->strides[i]);
        if (shape->strides[i] % STRIDE_ALIGN != 0)
            return tamisi_fail(TAMIS_EINVAL, "%s.%s is %lld: it must be a multiple of %d", name, members[i],
                               (long long)shape->strides[i], STRIDE_ALIGN);
    }
    if (shape->strides[2] < shape->head_dim)
        return tamisi_fail(TAMIS_EINVAL, "%s.token_stride is %lld: it must be at least head_dim, %lld", name,
                           (long long)shape->strides[2], (long long)shape->head_dim);
    return TAMIS_OK;
}

/* Bytes from the first element to past the last; false: more than 63 bits count. */
static bool extent_of(const struct shape *shape, int64_t *bytes)
{
    int64_t elements = shape->head_dim, part;
    for (int i = 0; i < 3; i++)
        if (__builtin_mul_overflow(shape->sizes[i] - 1, shape->strides[i], &part) ||
            __builtin_add_overflow(elements, part, &elements))
            return false;
    return !__builtin_mul_overflow(elements, (int64_t)sizeof(uint16_t), bytes);
}

/*
 * Whether each row has a place of its own: from the smallest stride up, each must step over all that lies inside it.
 * Dimensions of one element have no say. The extent has been found to fit.
 */
static bool rows_apart(const struct shape *shape)
{
    bool done[3] = {shape->sizes[0] == 1, shape->sizes[1] == 1, shape->sizes[2] == 1};
    int64_t inside = shape->head_dim;
    for (;;) {
        int next = -1;
        for (int i = 0; i < 3; i++)
            if (!done[i] && (next < 0 || shape->strides[i] < shape->strides[next])) next = i;
        if (next < 0) return true;
        if (shape->strides[next] < inside) return false;
        inside += (shape->sizes[next] - 1) * shape->strides[next];
        done[next] = true;
    }
}

/* ------------------------------------------------------------------------------------------------------------- spans */

static tamis_status add_span(struct tamisi_spans *spans, const char *name, const void *data, uint64_t bytes, bool written,
                             const tamis_tensor *tensor, uintptr_t token_bytes)
{
    const uintptr_t begin = (uintptr_t)data;
    if (bytes > UINTPTR_MAX - begin)
        return tamisi_fail(TAMIS_EINVAL, "%s: its %llu bytes pass the end of the address space", name,
                           (unsigned long long)bytes);
    if (bytes > 0) {
        const struct tamisi_span span = {name, begin, begin + bytes, tensor, token_bytes, written};
        spans->list[spans->count++] = span;
    }
    return TAMIS_OK;
}

tamis_status tamisi_check_tensor(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_tensor *tensor,
                                 const char *name, int heads, int64_t rows, bool written)
{
    int64_t bytes;
    TAMIS_TRY(tamisi_check_pointer(tensor, name));
    if (!tensor->data) return tamisi_fail(TAMIS_EINVAL, "%s.data: is NULL", name);
    if ((uintptr_t)tensor->data % TENSOR_ALIGN != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s.data: is not aligned to %d bytes", name, TENSOR_ALIGN);
    const struct shape shape = shape_of(plan, tensor, heads, rows);
    TAMIS_TRY(check_strides(&shape, name));
    if (!extent_of(&shape, &bytes))
        return tamisi_fail(TAMIS_EINVAL, "%s: its strides lead past 2^63 bytes", name);
    if (written && !rows_apart(&shape))
        return tamisi_fail(TAMIS_EINVAL, "%s: its strides put several rows in one place", name);
    /* Below the whole extent, so it fits. */
    const int64_t token_elements = (heads - 1) * tensor->head_stride + shape.head_dim;
    return add_span(spans, name, tensor->data, (uint64_t)bytes, written, tensor,
                    (uintptr_t)token_elements * sizeof(uint16_t));
}

tamis_status tamisi_check_flat(struct tamisi_spans *spans, const void *array, const char *name, int64_t count, size_t size,
                               bool written, bool may_be_null)
{
    uint64_t bytes;
    if (!array) return may_be_null ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is NULL", name);
    if ((uintptr_t)array % size != 0) return tamisi_fail(TAMIS_EINVAL, "%s: is not aligned to %zu bytes", name, size);
    if (__builtin_mul_overflow((uint64_t)count, (uint64_t)size, &bytes)) bytes = UINT64_MAX;
    return add_span(spans, name, array, bytes, written, NULL, 0);
}

tamis_status tamisi_check_array(struct tamisi_spans *spans, const tamis_plan *plan, const void *array, const char *name,
                                int heads, int64_t row, bool written, bool may_be_null)
{
    /* At most 2^16 * 2^10 * 2^24 elements. */
    const uint64_t bytes = (uint64_t)plan->problem.batch * (uint64_t)heads * (uint64_t)row * sizeof(float);
    if (!array) return may_be_null || bytes == 0 ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is NULL", name);
    if ((uintptr_t)array % sizeof(float) != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: is not aligned to %zu bytes", name, sizeof(float));
    return add_span(spans, name, array, bytes, written, NULL, 0);
}

tamis_status tamisi_check_map(struct tamisi_spans *spans, const tamis_plan *plan, const void *map, const char *name)
{
    const int64_t dim = plan->problem.head_dim, elements = plan->problem.q_heads * dim * dim;
    if (plan->options.output_map)
        return tamisi_check_flat(spans, map, name, elements / (TENSOR_ALIGN / 2), TENSOR_ALIGN, false, false);
    if (!map) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: is not NULL, and the plan was made without output_map", name);
}

tamis_status tamisi_check_workspace(struct tamisi_spans *spans, const tamis_plan *plan, void *workspace, size_t bytes)
{
    const size_t needed = plan->workspace.bytes;
    if (bytes < needed)
        return tamisi_fail(TAMIS_EWORKSPACE, "workspace_bytes is %zu: the plan needs %zu", bytes, needed);
    if (needed == 0) return TAMIS_OK;
    if (!workspace) return tamisi_fail(TAMIS_EINVAL, "workspace: is NULL, the plan needs %zu bytes", needed);
    if ((uintptr_t)workspace % WORKSPACE_ALIGN != 0)
        return tamisi_fail(TAMIS_EINVAL, "workspace: is not aligned to %d bytes", WORKSPACE_ALIGN);
    return add_span(spans, "workspace", workspace, needed, true, NULL, 0);
}

/*
 * Two tensors of one token stride whose spans meet, like Q and the output in one (B, L, heads, D) buffer: apart if what a
 * token has in the one and in the other does not meet within a stride, and batches step by whole strides.
 */
static bool interleaved(const struct tamisi_span *a, const struct tamisi_span *b, int32_t batch)
{
    if (!a->tensor || !b->tensor || a->tensor->token_stride != b->tensor->token_stride) return false;
    const uintptr_t stride = (uintptr_t)a->tensor->token_stride * sizeof(uint16_t);
    if (a->token_bytes > stride || b->token_bytes > stride) return false;
    if (batch > 1 && (a->tensor->batch_stride % a->tensor->token_stride != 0 ||
                      b->tensor->batch_stride % b->tensor->token_stride != 0))
        return false;
    /* Where b's part begins after a's, around the stride. */
    const uintptr_t ahead = (b->begin % stride + stride - a->begin % stride) % stride;
    return ahead >= a->token_bytes && ahead + b->token_bytes <= stride;
}

tamis_status tamisi_check_overlap(const struct tamisi_spans *spans, const tamis_plan *plan)
{
    for (int i = 0; i < spans->count; i++)
        for (int j = 0; j < i; j++) {
            const struct tamisi_span *a = &spans->list[i], *b = &spans->list[j];
            if (!(a->written || b->written) || a->begin >= b->end || b->begin >= a->end) continue;
            if (interleaved(a, b, plan->problem.batch)) continue;
            return tamisi_fail(TAMIS_EINVAL, "%s: overlaps %s", a->written ? a->name : b->name,
                               a->written ? b->name : a->name);
        }
    return TAMIS_OK;
}

tamis_status tamisi_check_stream(const tamis_context *context, tamis_stream stream)
{
    if (context->device != TAMIS_DEVICE_CPU || !stream) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "stream: is not NULL, and the CPU backend has no streams");
}
