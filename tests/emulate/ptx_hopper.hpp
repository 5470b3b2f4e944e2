/*
 * ptx_hopper.hpp: the instructions of ptx.hpp that sm_90 and sm_90a add: clusters, bulk copies, warpgroup products.
 */
#pragma once

#include "emulate.hpp"

namespace ptx {

/* ---- clusters, and launches that overlap: here one is through before the next begins */

inline unsigned special_cluster_ctarank() { return emulate::here->rank; }
inline unsigned special_cluster_nctarank()
{
    const emulate::Index &size = emulate::here->cluster_size;
    return size.x * size.y * size.z;
}
inline unsigned special_clusterid_x() { return emulate::here->cluster.x; }
inline void barrier_cluster_arrive_release() { emulate::cluster_arrive(); }
inline void barrier_cluster_arrive_release_aligned() { emulate::cluster_arrive(); }
inline void barrier_cluster_arrive_relaxed() { emulate::cluster_arrive(); }
inline void barrier_cluster_arrive_relaxed_aligned() { emulate::cluster_arrive(); }
inline void barrier_cluster_wait_acquire() { emulate::cluster_wait(); }
inline void barrier_cluster_wait_acquire_aligned() { emulate::cluster_wait(); }
template <typename T>
inline void mapa_u64(T *&other, const void *own, int rank)
{
    other = reinterpret_cast<T *>(emulate::shared_of_rank(own, static_cast<unsigned>(rank)));
}
inline void mapa_shared_cluster_u32(unsigned &other, unsigned own, int rank)
{
    other = emulate::shared_address_of_rank(own, static_cast<unsigned>(rank));
}
inline void griddepcontrol_launch_dependents() {}
inline void griddepcontrol_wait() {}

/* ---- fences: there is one order of memory here, but for what the copy engine and products may not have seen */

inline void fence_mbarrier_init_release_cluster() {}
inline void fence_proxy_async() { emulate::fence_stores(); }
inline void fence_proxy_async_shared_cta() { emulate::fence_stores(); }
inline void fence_acq_rel_cluster() {}
inline void fence_acq_rel_gpu() {}

/* ---- barriers that count bytes */

inline void mbarrier_arrive_expect_tx_shared_cta_b64(Nowhere, unsigned barrier, int bytes)
{
    emulate::barrier_expect(barrier, static_cast<unsigned>(bytes));
    emulate::barrier_arrive(barrier, 1);
}
inline void mbarrier_expect_tx_relaxed_cta_shared_cta_b64(unsigned barrier, int bytes)
{
    emulate::barrier_expect(barrier, static_cast<unsigned>(bytes));
}
inline void mbarrier_arrive_release_cluster_shared_cluster_b64(Nowhere, unsigned barrier)
{
    emulate::barrier_arrive(barrier, 1);
}
inline void mbarrier_arrive_shared_cluster_b64(Nowhere, unsigned barrier) { emulate::barrier_arrive(barrier, 1); }

/* ---- bulk copies */

inline void cp_async_bulk_shared_cluster_global_mbarrier_complete_tx_bytes(unsigned to, const void *from, int bytes,
                                                                           unsigned barrier)
{
    emulate::bulk_load(to, from, static_cast<unsigned>(bytes), barrier);
}
inline void cp_async_bulk_tensor_4d_shared_cluster_global_mbarrier_complete_tx_bytes(unsigned to, const void *map,
                                                                                     std::initializer_list<int> at,
                                                                                     unsigned barrier)
{
    emulate::tensor_load(to, map, barrier, at);
}
inline void cp_async_bulk_tensor_5d_shared_cluster_global_mbarrier_complete_tx_bytes(unsigned to, const void *map,
                                                                                     std::initializer_list<int> at,
                                                                                     unsigned barrier)
{
    emulate::tensor_load(to, map, barrier, at);
}
inline void cp_async_bulk_tensor_5d_shared_cluster_global_mbarrier_complete_tx_bytes_multicast_cluster(
    unsigned to, const void *map, std::initializer_list<int> at, unsigned barrier, unsigned short blocks)
{
    emulate::tensor_load_shared(to, map, barrier, at, blocks);
}
inline void cp_async_bulk_tensor_3d_shared_cluster_global_mbarrier_complete_tx_bytes(unsigned to, const void *map,
                                                                                     std::initializer_list<int> at,
                                                                                     unsigned barrier)
{
    emulate::tensor_load(to, map, barrier, at);
}
inline void cp_async_bulk_tensor_2d_shared_cluster_global_mbarrier_complete_tx_bytes(unsigned to, const void *map,
                                                                                     std::initializer_list<int> at,
                                                                                     unsigned barrier)
{
    emulate::tensor_load(to, map, barrier, at);
}
inline void cp_async_bulk_global_shared_cta_bulk_group(void *to, unsigned from, int bytes)
{
    emulate::bulk_store(to, from, static_cast<unsigned>(bytes));
}
inline void cp_async_bulk_commit_group() { emulate::bulk_commit(); }
inline void cp_async_bulk_wait_group(int pending) { emulate::bulk_wait(static_cast<unsigned>(pending), false); }
inline void cp_async_bulk_wait_group_read(int pending) { emulate::bulk_wait(static_cast<unsigned>(pending), true); }
inline void prefetch_tensormap(const void *) {}

/* ---- warpgroup products */

template <int kM, int kN, int kK>
inline void wgmma(Outputs<float> d, const unsigned *a, unsigned long long a_descriptor, unsigned long long b, bool accumulate,
                  int scale_a, int scale_b, int transposed_a, int transposed_b, Element element)
{
    static_assert(kM == 64 && kK == 16, "16-bit elements");
    if (d.size() != kN / 2) emulate::fail("wgmma: %zu accumulators for %d columns", d.size(), kN);
    emulate::WarpgroupProduct product = {d.begin(), kN, a, a_descriptor, b, accumulate, transposed_a != 0, transposed_b != 0,
                                         scale_a, scale_b, element};
    emulate::warpgroup_multiply(product);
}
template <int kM, int kN, int kK, typename P>
inline void wgmma_mma_async_sync_aligned_f32_bf16_bf16(Outputs<float> d, unsigned long long a, unsigned long long b,
                                                       P accumulate, int scale_a, int scale_b, int transposed_a,
                                                       int transposed_b)
{
    wgmma<kM, kN, kK>(d, nullptr, a, b, accumulate != 0, scale_a, scale_b, transposed_a, transposed_b, Element::bf16);
}
template <int kM, int kN, int kK, typename P>
inline void wgmma_mma_async_sync_aligned_f32_f16_f16(Outputs<float> d, unsigned long long a, unsigned long long b, P accumulate,
                                                     int scale_a, int scale_b, int transposed_a, int transposed_b)
{
    wgmma<kM, kN, kK>(d, nullptr, a, b, accumulate != 0, scale_a, scale_b, transposed_a, transposed_b, Element::f16);
}
template <int kM, int kN, int kK, typename P>
inline void wgmma_mma_async_sync_aligned_f32_bf16_bf16(Outputs<float> d, Words a, unsigned long long b, P accumulate,
                                                       int scale_a, int scale_b, int transposed_b)
{
    wgmma<kM, kN, kK>(d, a.begin(), 0, b, accumulate != 0, scale_a, scale_b, 0, transposed_b, Element::bf16);
}
template <int kM, int kN, int kK, typename P>
inline void wgmma_mma_async_sync_aligned_f32_f16_f16(Outputs<float> d, Words a, unsigned long long b, P accumulate, int scale_a,
                                                     int scale_b, int transposed_b)
{
    wgmma<kM, kN, kK>(d, a.begin(), 0, b, accumulate != 0, scale_a, scale_b, 0, transposed_b, Element::f16);
}
/* Where in the kernel these are called tells them apart. */
__forceinline__ void wgmma_fence_sync_aligned() { emulate::warpgroup_fence(); }
__forceinline__ void wgmma_commit_group_sync_aligned() { emulate::warpgroup_commit(); }
__forceinline__ void wgmma_wait_group_sync_aligned(int pending)
{
    emulate::warpgroup_wait(static_cast<unsigned>(pending));
}

inline void setmaxnreg_inc_sync_aligned_u32(int count) { emulate::set_registers(count); }
inline void setmaxnreg_dec_sync_aligned_u32(int count) { emulate::set_registers(count); }

} // namespace ptx
