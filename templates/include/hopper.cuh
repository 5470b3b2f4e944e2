/*
 * hopper.cuh: what sm_90a adds: mbarriers that count bytes, the tensor copy engine, warpgroup matrix instructions, register
 * hand-over. One function each; wgmma's instruction itself is expanded by the template, whose tile sizes fix its operand list.
 */
#pragma once

#include "ptx.cuh"

/* Make initialised barriers visible to the copy engine. */
__device__ __forceinline__ void barrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrive, and announce bytes that the copy engine will bring before the phase completes. */
__device__ __forceinline__ void barrier_expect(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Announce such bytes without arriving. */
__device__ __forceinline__ void barrier_expect_more(unsigned barrier, int bytes)
{
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

/* Named barriers: `id` from 1 to 15, `threads` how many take part. */
__device__ __forceinline__ void named_sync(int id, int threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void named_arrive(int id, int threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* A place in a ring of kPlaces tiles, each with a barrier, and the parity of its round. */
template <int kPlaces>
struct Ring {
    int stage = 0;
    unsigned phase = 0;
    __device__ __forceinline__ void advance()
    {
        if (++stage == kPlaces) {
            stage = 0;
            phase ^= 1;
        }
    }
};

/* ---- tensor copy engine */

/*
 * Load a box of a (B, H, rows, D) tensor map to shared memory; `barrier` counts its bytes, those outside the tensor
 * included, which arrive as zeros.
 */
__device__ __forceinline__ void tensor_load(unsigned shared, const void *map, unsigned barrier, int column, int row,
                                            int head, int sequence)
{
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(sequence)
                 : "memory");
}

/*
 * The same of a map of rows a stride apart, (B, H, groups, stride, D): boxes of rows `within` their group, one a group from
 * `group` on.
 */
__device__ __forceinline__ void strided_load(unsigned shared, const void *map, unsigned barrier, int column, int within,
                                             int group, int head, int sequence)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(within), "r"(group), "r"(head), "r"(sequence)
                 : "memory");
}

/* And to each block of the cluster whose bit of `blocks` is set: at the same place, counted by its barrier at the same. */
__device__ __forceinline__ void strided_load_shared(unsigned shared, const void *map, unsigned barrier, int column, int within,
                                                    int group, int head, int sequence, int blocks)
{
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
                 "[%0], [%1, {%3, %4, %5, %6, %7}], [%2], %8;" ::"r"(shared),
                 "l"(map), "r"(barrier), "r"(column), "r"(within), "r"(group), "r"(head), "r"(sequence),
                 "h"(static_cast<unsigned short>(blocks))
                 : "memory");
}

/* Shared memory written by ordinary stores becomes visible to wgmma and the copy engine. */
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/* ---- warpgroup matrix multiply */

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

/*
 * Matrix descriptor of a tile in shared memory with 128-byte swizzle: rows of 128 bytes, eight rows an atom, so that the
 * next eight rows lie 1024 bytes further. Its low half is the address in units of 16 bytes and `lead`, the distance in
 * bytes between 64-column sub-tiles, which only operands stored with the multiplied dimension outermost use. Walking
 * through a tile adds to the low half alone: kept apart, the rest is a constant.
 */
__device__ __forceinline__ unsigned descriptor_low(unsigned shared, unsigned lead) { return lead >> 4 << 16 | shared >> 4; }

__device__ __forceinline__ unsigned long long matrix_descriptor(unsigned low, unsigned offset_bytes)
{
    constexpr unsigned kStride = 1024 >> 4, kSwizzle128 = 1u << 30;
    return static_cast<unsigned long long>(kSwizzle128 | kStride) << 32 | (low + (offset_bytes >> 4));
}

/* Keep the compiler from moving accesses of an accumulator across a wgmma boundary. */
template <int kCount>
__device__ __forceinline__ void pin_registers(float (&r)[kCount])
{
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(r[i])::"memory");
}

template <int kRegisters>
__device__ __forceinline__ void take_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void give_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
