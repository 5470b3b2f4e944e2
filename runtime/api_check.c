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

static struct tamisi_span span_of(const tamis_plan *plan, const tamis_tensor *tensor, const char *name, int heads,
                                  int64_t rows, bool written)
{
    return (struct tamisi_span){.name = name,
                                .sizes = {plan->problem.batch, heads, rows},
                                .strides = {tensor->batch_stride, tensor->head_stride, tensor->token_stride},
                                .head_dim = plan->problem.head_dim,
                                .written = written};
}

static tamis_status check_strides(const struct tamisi_span *span, const char *name)
{
    static const char *const members[] = {"batch_stride", "head_stride", "token_stride"};
    for (int i = 0; i < 3; i++) {
        if (span->strides[i] < 0)
            return tamisi_fail(TAMIS_EINVAL, "%s.%s is %lld: it must not be negative", name, members[i],
                               (long long)span->strides[i]);
        if (span->strides[i] % STRIDE_ALIGN != 0)
            return tamisi_fail(TAMIS_EINVAL, "%s.%s is %lld: it must be a multiple of %d", name, members[i],
                               (long long)span->strides[i], STRIDE_ALIGN);
    }
    if (span->strides[2] < span->head_dim)
        return tamisi_fail(TAMIS_EINVAL, "%s.token_stride is %lld: it must be at least head_dim, %lld", name,
                           (long long)span->strides[2], (long long)span->head_dim);
    return TAMIS_OK;
}

/* Bytes from the first element to past the last; false: more than 63 bits count. */
static bool extent_of(const struct tamisi_span *span, int64_t *bytes)
{
    int64_t elements = span->head_dim, part;
    for (int i = 0; i < 3; i++)
        if (__builtin_mul_overflow(span->sizes[i] - 1, span->strides[i], &part) ||
            __builtin_add_overflow(elements, part, &elements))
            return false;
    return !__builtin_mul_overflow(elements, (int64_t)sizeof(uint16_t), bytes);
}

/*
 * Whether each row has a place of its own: from the smallest stride up, each must step over all that lies inside it.
 * Dimensions of one element have no say. The extent has been found to fit.
 */
static bool rows_apart(const struct tamisi_span *span)
{
    bool done[3] = {span->sizes[0] == 1, span->sizes[1] == 1, span->sizes[2] == 1};
    int64_t inside = span->head_dim;
    for (;;) {
        int next = -1;
        for (int i = 0; i < 3; i++)
            if (!done[i] && (next < 0 || span->strides[i] < span->strides[next])) next = i;
        if (next < 0) return true;
        if (span->strides[next] < inside) return false;
        inside += (span->sizes[next] - 1) * span->strides[next];
        done[next] = true;
    }
}

/* ------------------------------------------------------------------------------------------------------------- spans */

/* `span`: all but where it lies. */
static tamis_status add_span(struct tamisi_spans *spans, const struct tamisi_span *span, const void *data, uint64_t bytes)
{
    const uintptr_t begin = (uintptr_t)data;
    if (bytes > UINTPTR_MAX - begin)
        return tamisi_fail(TAMIS_EINVAL, "%s: its %llu bytes pass the end of the address space", span->name,
                           (unsigned long long)bytes);
    if (bytes == 0) return TAMIS_OK;
    struct tamisi_span *added = &spans->list[spans->count++];
    *added = *span;
    added->begin = begin;
    added->end = begin + bytes;
    return TAMIS_OK;
}

static tamis_status add_array(struct tamisi_spans *spans, const char *name, const void *data, uint64_t bytes, bool written)
{
    return add_span(spans, &(struct tamisi_span){.name = name, .written = written}, data, bytes);
}

tamis_status tamisi_check_tensor(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_tensor *tensor,
                                 const char *name, int heads, int64_t rows, bool written)
{
    int64_t bytes;
    TAMIS_TRY(tamisi_check_pointer(tensor, name));
    if (!tensor->data) return tamisi_fail(TAMIS_EINVAL, "%s.data: is NULL", name);
    if ((uintptr_t)tensor->data % TENSOR_ALIGN != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s.data: is not aligned to %d bytes", name, TENSOR_ALIGN);
    const struct tamisi_span span = span_of(plan, tensor, name, heads, rows, written);
    TAMIS_TRY(check_strides(&span, name));
    if (!extent_of(&span, &bytes))
        return tamisi_fail(TAMIS_EINVAL, "%s: its strides lead past 2^63 bytes", name);
    if (written && !rows_apart(&span))
        return tamisi_fail(TAMIS_EINVAL, "%s: its strides put several rows in one place", name);
    return add_span(spans, &span, tensor->data, (uint64_t)bytes);
}

tamis_status tamisi_check_flat(struct tamisi_spans *spans, const void *array, const char *name, int64_t count, size_t size,
                               bool written, bool may_be_null)
{
    uint64_t bytes;
    if (!array) return may_be_null ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is NULL", name);
    if ((uintptr_t)array % size != 0) return tamisi_fail(TAMIS_EINVAL, "%s: is not aligned to %zu bytes", name, size);
    if (__builtin_mul_overflow((uint64_t)count, (uint64_t)size, &bytes)) bytes = UINT64_MAX;
    return add_array(spans, name, array, bytes, written);
}

tamis_status tamisi_check_array(struct tamisi_spans *spans, const tamis_plan *plan, const void *array, const char *name,
                                int heads, int64_t row, bool written, bool may_be_null)
{
    /* At most 2^16 * 2^10 * 2^24 elements. */
    const uint64_t bytes = (uint64_t)plan->problem.batch * (uint64_t)heads * (uint64_t)row * sizeof(float);
    if (!array) return may_be_null || bytes == 0 ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is NULL", name);
    if ((uintptr_t)array % sizeof(float) != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: is not aligned to %zu bytes", name, sizeof(float));
    return add_array(spans, name, array, bytes, written);
}

tamis_status tamisi_check_map(struct tamisi_spans *spans, const tamis_plan *plan, const void *map, const char *name)
{
    const int64_t dim = plan->problem.head_dim, elements = plan->problem.q_heads * dim * dim;
    if (plan->options.output_map)
        return tamisi_check_flat(spans, map, name, elements / (TENSOR_ALIGN / 2), TENSOR_ALIGN, false, false);
    if (!map) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: is not NULL, and the plan was made without output_map", name);
}

static tamis_status check_workspace(struct tamisi_spans *spans, const tamis_plan *plan, void *workspace, size_t bytes)
{
    const size_t needed = plan->workspace.bytes;
    if (bytes < needed)
        return tamisi_fail(TAMIS_EWORKSPACE, "workspace_bytes is %zu: the plan needs %zu", bytes, needed);
    if (needed == 0) return TAMIS_OK;
    if (!workspace) return tamisi_fail(TAMIS_EINVAL, "workspace: is NULL, the plan needs %zu bytes", needed);
    if ((uintptr_t)workspace % WORKSPACE_ALIGN != 0)
        return tamisi_fail(TAMIS_EINVAL, "workspace: is not aligned to %d bytes", WORKSPACE_ALIGN);
    return add_array(spans, "workspace", workspace, needed, true);
}

/*
 * What a tensor takes up of each `period` elements, from its first one on: of a dimension that steps by whole periods nothing,
 * of any other its length.
 */
static int64_t part_of(const struct tamisi_span *span, int64_t period)
{
    int64_t part = span->head_dim;
    for (int i = 0; i < 3; i++) /* a sum of parts of the extent, which has been found to fit */
        if (span->sizes[i] > 1 && span->strides[i] % period != 0) part += (span->sizes[i] - 1) * span->strides[i];
    return part;
}

/*
 * Two tensors that share a stride and whose spans meet: like Q and the output in one (B, L, heads, D) buffer, or K and V in a
 * (B, 2, H, L, D) one. They are apart if what the one and the other take up of each stride does not meet, around the stride.
 */
static bool interleaved(const struct tamisi_span *a, const struct tamisi_span *b)
{
    for (int i = 0; i < 3; i++) {
        const int64_t stride = a->strides[i];
        if (stride <= 0 || stride != b->strides[i]) continue; /* of arrays too */
        const uintptr_t bytes = (uintptr_t)stride * sizeof(uint16_t), from = a->begin % bytes, to = b->begin % bytes;
        const uintptr_t ahead = to >= from ? to - from : bytes - (from - to); /* of where a begins, where b does */
        const int64_t a_part = part_of(a, stride), b_part = part_of(b, stride);
        if (a_part > stride || b_part > stride) continue;
        if (ahead >= (uintptr_t)a_part * sizeof(uint16_t) && ahead + (uintptr_t)b_part * sizeof(uint16_t) <= bytes) return true;
    }
    return false;
}

static tamis_status check_overlap(const struct tamisi_spans *spans)
{
    for (int i = 0; i < spans->count; i++)
        for (int j = 0; j < i; j++) {
            const struct tamisi_span *a = &spans->list[i], *b = &spans->list[j];
            if (!(a->written || b->written) || a->begin >= b->end || b->begin >= a->end) continue;
            if (interleaved(a, b)) continue;
            return tamisi_fail(TAMIS_EINVAL, "%s: overlaps %s", a->written ? a->name : b->name,
                               a->written ? b->name : a->name);
        }
    return TAMIS_OK;
}

tamis_status tamisi_check_memory(struct tamisi_spans *spans, const tamis_plan *plan, void *workspace, size_t bytes)
{
    TAMIS_TRY(check_workspace(spans, plan, workspace, bytes));
    return check_overlap(spans);
}

tamis_status tamisi_check_stream(const tamis_context *context, tamis_stream stream)
{
    if (context->device != TAMIS_DEVICE_CPU || !stream) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "stream: is not NULL, and the CPU backend has no streams");
}
