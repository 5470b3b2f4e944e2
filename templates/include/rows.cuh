/*
 * rows.cuh: rows of a strided tensor as bytes, for the kernels that only move them.
 */
#pragma once

#include "kernel_args.h"

/* Row 0 of one head. */
__device__ __forceinline__ char *row_bytes(const tamis_rows &rows, int sequence, int head)
{
    return static_cast<char *>(rows.data) + 2 * (sequence * rows.batch_stride + head * rows.head_stride);
}

/* The index list of one (sequence, index head). */
__device__ __forceinline__ const int *index_list(const int *indices, int sequence, int index_head, int index_heads,
                                                 long long capacity)
{
    return indices + (static_cast<long long>(sequence) * index_heads + index_head) * capacity;
}

/* 16 bytes that this kernel reads once: not kept in L1. */
__device__ __forceinline__ int4 load_once(const void *pointer)
{
    int4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(pointer));
    return value;
}

/* 16 bytes that this kernel does not read again: the first to leave L2. */
__device__ __forceinline__ void store_once(void *pointer, int4 value)
{
    asm volatile("st.global.cs.v4.s32 [%0], {%1, %2, %3, %4};" ::"l"(pointer), "r"(value.x), "r"(value.y), "r"(value.z),
                 "r"(value.w)
                 : "memory");
}
