/*
 * ptx.hpp: the instructions that kernels write as inline PTX, one function each: its name with underscores for dots, its
 * operands in their order; sizes as in m16n8k16 are template arguments. Operands that are written are references, or pointers
 * in a list where they stand in braces. What only sm_90a has is in ptx_hopper.hpp.
 */
#pragma once

#include "emulate.hpp"

namespace ptx {

using emulate::Element;
template <typename T>
using Outputs = std::initializer_list<T *>;
using Words = std::initializer_list<unsigned>;

struct Nowhere {}; /* an operand "_" */
constexpr Nowhere nowhere;

/* ---- special registers */

inline unsigned special_laneid() { return static_cast<unsigned>(emulate::here->lane); }
inline unsigned special_warpid() { return static_cast<unsigned>(emulate::here->warp); }
inline unsigned special_tid_x() { return emulate::here->thread.x; }
inline unsigned special_ctaid_x() { return emulate::here->block.x; }
inline unsigned special_ctaid_y() { return emulate::here->block.y; }
inline unsigned special_ctaid_z() { return emulate::here->block.z; }
inline unsigned special_nctaid_x() { return emulate::here->grid_size.x; }
inline unsigned special_smid() { return emulate::here->block.x; }
inline unsigned special_lanemask_lt() { return (1u << emulate::here->lane) - 1; }
inline unsigned special_lanemask_le() { return (2u << emulate::here->lane) - 1; }
inline unsigned special_lanemask_eq() { return 1u << emulate::here->lane; }

/* ---- moves, predicates, integers */

template <typename D, typename A>
inline void mov_u32(D &d, A a) { d = static_cast<D>(a); }
template <typename D, typename A>
inline void mov_b32(D &d, A a)
{
    static_assert(sizeof(D) == 4 && sizeof(A) == 4, "32 bits");
    memcpy(&d, &a, 4);
}
template <typename D, typename A>
inline void mov_b64(D &d, A a)
{
    static_assert(sizeof(D) == 8 && sizeof(A) == 8, "64 bits");
    memcpy(&d, &a, 8);
}
/* Two words to 64 bits, and back. */
template <typename D>
inline void mov_b64(D &d, std::initializer_list<unsigned> words)
{
    const unsigned long long both = static_cast<unsigned long long>(words.begin()[1]) << 32 | words.begin()[0];
    memcpy(&d, &both, 8);
}
template <typename T, typename A>
inline void mov_b64(std::initializer_list<T *> words, A a)
{
    memcpy(words.begin()[0], &a, 4);
    memcpy(words.begin()[1], reinterpret_cast<const char *>(&a) + 4, 4);
}
template <typename A, typename B>
inline void setp_ne_u32(bool &d, A a, B b) { d = static_cast<unsigned>(a) != static_cast<unsigned>(b); }
template <typename A, typename B>
inline void setp_ne_b32(bool &d, A a, B b) { d = static_cast<unsigned>(a) != static_cast<unsigned>(b); }
template <typename A, typename B>
inline void setp_eq_u32(bool &d, A a, B b) { d = static_cast<unsigned>(a) == static_cast<unsigned>(b); }
template <typename A, typename B>
inline void setp_eq_b32(bool &d, A a, B b) { d = static_cast<unsigned>(a) == static_cast<unsigned>(b); }
template <typename A, typename B>
inline void setp_ne_s32(bool &d, A a, B b) { d = static_cast<int>(a) != static_cast<int>(b); }
template <typename D>
inline void selp_u32(D &d, unsigned a, unsigned b, bool p) { d = static_cast<D>(p ? a : b); }
template <typename D>
inline void selp_b32(D &d, unsigned a, unsigned b, bool p) { d = static_cast<D>(p ? a : b); }
template <typename D>
inline void prmt_b32(D &d, unsigned a, unsigned b, unsigned selector) { d = static_cast<D>(__byte_perm(a, b, selector)); }
template <typename D>
inline void lop3_b32(D &d, unsigned a, unsigned b, unsigned c, unsigned table)
{
    unsigned out = 0;
    for (unsigned i = 0; i < 8; i++)
        if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    d = static_cast<D>(out);
}

/* ---- floats: ftz makes zeros of what is below the smallest normal number */

inline float flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
inline void ex2_approx_f32(float &d, float a) { d = exp2f(a); }
inline void ex2_approx_ftz_f32(float &d, float a) { d = flush(exp2f(flush(a))); }
inline void lg2_approx_f32(float &d, float a) { d = log2f(a); }
inline void lg2_approx_ftz_f32(float &d, float a) { d = log2f(flush(a)); }
inline void rcp_approx_f32(float &d, float a) { d = 1.0f / a; }
inline void rcp_approx_ftz_f32(float &d, float a) { d = flush(1.0f / flush(a)); }
inline void rsqrt_approx_f32(float &d, float a) { d = 1.0f / sqrtf(a); }
inline void tanh_approx_f32(float &d, float a) { d = tanhf(a); }
inline void fma_rn_f32(float &d, float a, float b, float c) { d = fmaf(a, b, c); }
inline void fma_rn_ftz_f32(float &d, float a, float b, float c) { d = flush(fmaf(flush(a), flush(b), flush(c))); }
inline void max_f32(float &d, float a, float b) { d = fmaxf(a, b); }

inline unsigned short f16_bits(float x)
{
#ifdef __F16C__ /* by the builtin, as the header of these is large */
    typedef float Four __attribute__((vector_size(16)));
    const Four four = {x};
    return x == x ? static_cast<unsigned short>(__builtin_ia32_vcvtps2ph(four, 0)[0]) : 0x7fff;
#else
    return emulate::element_bits(Element::f16, x);
#endif
}
inline unsigned short bf16_bits(float x)
{
    const unsigned word = __float_as_uint(x);
    return x == x ? static_cast<unsigned short>((word + 0x7fff + (word >> 16 & 1)) >> 16) : 0x7fff;
}
template <typename D>
inline void cvt_rn_bf16x2_f32(D &d, float high, float low)
{
    d = static_cast<D>(static_cast<unsigned>(bf16_bits(high)) << 16 | bf16_bits(low));
}
template <typename D>
inline void cvt_rn_f16x2_f32(D &d, float high, float low)
{
    d = static_cast<D>(static_cast<unsigned>(f16_bits(high)) << 16 | f16_bits(low));
}
inline void cvt_rn_bf16_f32(unsigned short &d, float a) { d = bf16_bits(a); }
inline void cvt_rn_f16_f32(unsigned short &d, float a) { d = f16_bits(a); }
inline void cvt_f32_f16(float &d, unsigned short a) { d = emulate::element_value(Element::f16, a); }
inline void cvt_f32_bf16(float &d, unsigned short a) { d = emulate::element_value(Element::bf16, a); }

/* ---- loads and stores */

template <typename T>
inline void load_vector(Outputs<T> out, const void *from, const char *what)
{
    emulate::check_global(from, static_cast<unsigned>(out.size() * sizeof(T)), what);
    const T *at = static_cast<const T *>(from);
    for (T *to : out) *to = *at++;
}
template <typename T>
inline void store_vector(void *to, std::initializer_list<T> values, const char *what)
{
    emulate::check_global(to, static_cast<unsigned>(values.size() * sizeof(T)), what);
    T *at = static_cast<T *>(to);
    for (const T value : values) *at++ = value;
}
template <typename T>
inline void ld_global_nc_L1_no_allocate_v4_s32(Outputs<T> out, const void *from) { load_vector(out, from, "ld.global.v4"); }
inline void st_global_cs_v4_s32(void *to, std::initializer_list<int> values) { store_vector(to, values, "st.global.v4"); }
inline void st_shared_v4_b32(unsigned to, Words values)
{
    memcpy(emulate::shared_memory(to, 16, "st.shared.v4"), values.begin(), 16);
    emulate::note_store(to, 16);
}
inline void ld_shared_v4_b32(Outputs<unsigned> out, unsigned from)
{
    const unsigned *at = reinterpret_cast<const unsigned *>(emulate::shared_memory(from, 16, "ld.shared.v4"));
    for (unsigned *to : out) *to = *at++;
}
inline void red_shared_add_u32(unsigned to, unsigned value)
{
    unsigned *at = reinterpret_cast<unsigned *>(emulate::shared_memory(to, 4, "red.shared"));
    *at += value;
}
template <typename T>
inline void ld_acquire_gpu_global_u32(T &d, const void *from)
{
    emulate::check_global(from, 4, "ld.acquire");
    d = static_cast<T>(*static_cast<const volatile unsigned *>(from));
    emulate::give_way(); /* somebody may be waited for */
}
inline void st_release_gpu_global_u32(void *to, unsigned value)
{
    emulate::check_global(to, 4, "st.release");
    *static_cast<volatile unsigned *>(to) = value;
}
inline void red_release_gpu_global_add_u32(void *to, unsigned value)
{
    emulate::check_global(to, 4, "red.release");
    *static_cast<unsigned *>(to) += value;
}

/* ---- cp.async */

inline void cp_async_cg_shared_global(unsigned to, const void *from, unsigned bytes)
{
    emulate::copy_async(to, from, bytes, bytes);
}
inline void cp_async_cg_shared_global(unsigned to, const void *from, unsigned bytes, int valid)
{
    emulate::copy_async(to, from, bytes, static_cast<unsigned>(valid));
}
inline void cp_async_ca_shared_global(unsigned to, const void *from, unsigned bytes)
{
    emulate::copy_async(to, from, bytes, bytes);
}
inline void cp_async_ca_shared_global(unsigned to, const void *from, unsigned bytes, int valid)
{
    emulate::copy_async(to, from, bytes, static_cast<unsigned>(valid));
}
inline void cp_async_commit_group() { emulate::copy_async_commit(); }
inline void cp_async_wait_group(int pending) { emulate::copy_async_wait(static_cast<unsigned>(pending)); }
inline void cp_async_wait_all() { emulate::copy_async_wait_all(); }
inline void cp_async_mbarrier_arrive_noinc_shared_cta_b64(unsigned barrier) { emulate::copy_async_arrive(barrier); }

/* ---- barriers */

inline void bar_sync(int id) { emulate::block_barrier(id, 0, true); }
inline void bar_sync(int id, int threads) { emulate::block_barrier(id, threads, true); }
inline void bar_arrive(int id, int threads) { emulate::block_barrier(id, threads, false); }
inline void mbarrier_init_shared_cta_b64(unsigned barrier, int arrivals)
{
    emulate::barrier_init(barrier, static_cast<unsigned>(arrivals));
}
inline void mbarrier_inval_shared_cta_b64(unsigned barrier) { emulate::barrier_end(barrier); }
inline void mbarrier_arrive_shared_cta_b64(Nowhere, unsigned barrier) { emulate::barrier_arrive(barrier, 1); }
template <typename P>
inline void mbarrier_test_wait_parity_shared_cta_b64(bool &done, unsigned barrier, P parity)
{
    done = emulate::barrier_test(barrier, static_cast<unsigned>(parity));
}
/* Not tried but waited for: so that the emulator knows who waits. */
template <typename P>
inline void mbarrier_try_wait_parity_shared_cta_b64(bool &done, unsigned barrier, P parity)
{
    emulate::barrier_wait(barrier, static_cast<unsigned>(parity));
    done = true;
}

/* ---- matrices */

template <int kM, int kN, int kK>
inline void mma_16816(Outputs<float> d, Words a, Words b, Outputs<float> c, Element element)
{
    static_assert(kM == 16 && kN == 8 && kK == 16, "the one size that is used");
    emulate::Product product = {d.begin(), a.begin(), b.begin(), c.begin(), element};
    emulate::multiply(product);
}
template <int kM, int kN, int kK>
inline void mma_sync_aligned_row_col_f32_bf16_bf16_f32(Outputs<float> d, Words a, Words b, Outputs<float> c)
{
    mma_16816<kM, kN, kK>(d, a, b, c, Element::bf16);
}
template <int kM, int kN, int kK>
inline void mma_sync_aligned_row_col_f32_f16_f16_f32(Outputs<float> d, Words a, Words b, Outputs<float> c)
{
    mma_16816<kM, kN, kK>(d, a, b, c, Element::f16);
}
inline void ldmatrix(Outputs<unsigned> r, unsigned address, bool transposed)
{
    emulate::Matrices matrices = {r.begin(), static_cast<unsigned>(r.size()), address, transposed};
    emulate::load_matrices(matrices);
}
template <int kM, int kN>
inline void ldmatrix_sync_aligned_x4_shared_b16(Outputs<unsigned> r, unsigned address) { ldmatrix(r, address, false); }
template <int kM, int kN>
inline void ldmatrix_sync_aligned_x4_trans_shared_b16(Outputs<unsigned> r, unsigned address) { ldmatrix(r, address, true); }
template <int kM, int kN>
inline void ldmatrix_sync_aligned_x2_shared_b16(Outputs<unsigned> r, unsigned address) { ldmatrix(r, address, false); }
template <int kM, int kN>
inline void ldmatrix_sync_aligned_x2_trans_shared_b16(Outputs<unsigned> r, unsigned address) { ldmatrix(r, address, true); }

} // namespace ptx

#include "ptx_hopper.hpp"
