/*
 * api.h: what the API's own files share: the checks of arguments. Top of the runtime, above plan and the backends; nothing
 * but api*.c includes it.
 *
 * Every check fails with TAMIS_EINVAL (the workspace's size with TAMIS_EWORKSPACE) and a message that opens with the
 * argument's name as tamis.h spells it. They look at addresses and numbers only, never at what a pointer points to: it may
 * be a GPU's.
 */
#ifndef TAMISI_API_H
#define TAMISI_API_H

#include "options.h"
#include "plan.h"

#include <stdbool.h>

tamis_status tamisi_check_pointer(const void *pointer, const char *name); /* not NULL */

/* The memory that arguments of one call take up, collected to see that nothing is written over another. */
#define TAMISI_SPANS 13

struct tamisi_span {
    const char *name;
    uintptr_t begin, end;       /* end is one past the last byte; empty spans are not collected */
    int64_t sizes[3], strides[3]; /* a tensor's dimensions before the last: B, heads, rows; zeros: an array */
    int64_t head_dim;
    bool written;
};

struct tamisi_spans {
    struct tamisi_span list[TAMISI_SPANS];
    int count;
};

/*
 * A (B, heads, rows, D) tensor of the plan: there, aligned, of sound strides, and inside the address space. One that is
 * written must not have two rows in one place. `name` must outlive the spans.
 */
tamis_status tamisi_check_tensor(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_tensor *tensor,
                                 const char *name, int heads, int64_t rows, bool written);

/* An array of (B, heads, row) 4-byte elements, aligned to them. NULL passes if it may be left out, or has no elements. */
tamis_status tamisi_check_array(struct tamisi_spans *spans, const tamis_plan *plan, const void *array, const char *name,
                                int heads, int64_t row, bool written, bool may_be_null);

/* Contiguous memory of `count` elements of `size` bytes, aligned to them. NULL passes if it may. */
tamis_status tamisi_check_flat(struct tamisi_spans *spans, const void *array, const char *name, int64_t count, size_t size,
                               bool written, bool may_be_null);

/* A run's blocks, in a form; `name` is the argument's, "blocks" or "args.blocks". api_blocks.c. */
tamis_status tamisi_check_blocks(struct tamisi_spans *spans, const tamis_plan *plan, const tamis_blocks *blocks,
                                 tamis_blocks_form form, const char *name);

/* A run's output map, which there is if and only if the plan asks for one; `name` is the argument's. */
tamis_status tamisi_check_map(struct tamisi_spans *spans, const tamis_plan *plan, const void *map, const char *name);

/*
 * What every call ends its checks with: the workspace, and that no written span meets another. Tensors may interleave by a
 * stride that they share, like the parts of a fused projection.
 */
tamis_status tamisi_check_memory(struct tamisi_spans *spans, const tamis_plan *plan, void *workspace, size_t bytes);

/* The CPU backend has no streams: one given is another context's. */
tamis_status tamisi_check_stream(const tamis_context *context, tamis_stream stream);

#endif
