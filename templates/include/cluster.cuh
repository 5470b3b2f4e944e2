/*
 * cluster.cuh: a cluster of thread blocks that read each other's shared memory (sm_90 and newer). A cluster of one block
 * compiles for every architecture, to the barriers of a block.
 */
#pragma once

/*
 * Every thread of the cluster arrives, then waits. What was written to shared memory before an arrival can be read by the
 * whole cluster behind the wait. A block must not end while others may still read its shared memory.
 */
template <int kCluster>
__device__ __forceinline__ void cluster_arrive()
{
    if constexpr (kCluster > 1) asm volatile("barrier.cluster.arrive.release;" ::: "memory");
}

/* The same, but nothing that was written is published: what is left to say is that this block has read all it wanted. */
template <int kCluster>
__device__ __forceinline__ void cluster_arrive_relaxed()
{
    if constexpr (kCluster > 1) asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
}

template <int kCluster>
__device__ __forceinline__ void cluster_wait()
{
    if constexpr (kCluster > 1)
        asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    else
        __syncthreads();
}

template <int kCluster>
__device__ __forceinline__ void cluster_sync()
{
    cluster_arrive<kCluster>();
    cluster_wait<kCluster>();
}

/* Where the block `rank` of the cluster has what this block has at `own`, in shared memory. */
template <int kCluster, typename T>
__device__ __forceinline__ const T *cluster_shared(const T *own, int rank)
{
    if constexpr (kCluster > 1) {
        const T *other;
        asm volatile("mapa.u64 %0, %1, %2;" : "=l"(other) : "l"(own), "r"(rank));
        return other;
    } else {
        return own;
    }
}

/*
 * Arrive at the mbarrier that the block `rank` has where this block has `barrier`. What it tells is that products which read
 * shared memory are through: it orders nothing of this thread's for the other block, which would take a fence a call.
 */
__device__ __forceinline__ void cluster_barrier_arrive(unsigned barrier, int rank)
{
    unsigned other;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other) : "r"(barrier), "r"(rank));
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(other) : "memory");
}
