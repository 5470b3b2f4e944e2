/*
 * device.hpp: what CUDA C++ gives a kernel without an include: variables, types, intrinsics. Included in front of every
 * translated kernel; inline PTX is in ptx.hpp.
 */
#pragma once

#include "emulate.hpp"

#include <cassert>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <type_traits>
#include <utility>

#define __device__
#define __host__
#define __global__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __block_size__(...)
#define __maxnreg__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __restrict__

using std::signbit;

#define threadIdx (::emulate::here->thread)
#define blockIdx (::emulate::here->block)
#define blockDim (::emulate::here->block_size)
#define gridDim (::emulate::here->grid_size)
#define warpSize 32

/* ---- vectors */

struct __align__(8) int2 { int x, y; };
struct __align__(16) int4 { int x, y, z, w; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
struct __align__(4) short2 { short x, y; };
struct __align__(4) ushort2 { unsigned short x, y; };
struct __align__(8) ushort4 { unsigned short x, y, z, w; };
struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(16) double2 { double x, y; };
struct __align__(16) longlong2 { long long x, y; };
struct __align__(16) ulonglong2 { unsigned long long x, y; };
struct int3 { int x, y, z; };
struct uint3 { unsigned x, y, z; };
struct float3 { float x, y, z; };
using dim3 = uint3;
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }

/* ---- numbers */

template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b)
{
    using Common = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<Common>)
        return std::fmin(static_cast<Common>(a), static_cast<Common>(b));
    else
        return static_cast<Common>(b) < static_cast<Common>(a) ? static_cast<Common>(b) : static_cast<Common>(a);
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b)
{
    using Common = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point_v<Common>)
        return std::fmax(static_cast<Common>(a), static_cast<Common>(b));
    else
        return static_cast<Common>(a) < static_cast<Common>(b) ? static_cast<Common>(b) : static_cast<Common>(a);
}

namespace emulate {
template <typename To, typename From>
inline To same_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "of one size");
    return __builtin_bit_cast(To, from);
}
/* A result that the compiler may fuse with nothing. */
inline float alone(float x)
{
    asm("" : "+m"(x));
    return x;
}
} // namespace emulate

inline int __float_as_int(float x) { return emulate::same_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulate::same_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulate::same_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulate::same_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulate::same_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulate::same_bits<double>(x); }
inline float __fmul_rn(float a, float b) { return emulate::alone(a * b); }
inline float __fadd_rn(float a, float b) { return emulate::alone(a + b); }
inline float __fsub_rn(float a, float b) { return emulate::alone(a - b); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __saturatef(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }
inline float __expf(float x) { return expf(x); }
inline float __exp2f(float x) { return exp2f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int __float2int_rn(float x) { return static_cast<int>(lrintf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(llrintf(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x)
{
    unsigned out = 0;
    for (int i = 0; i < 32; i++) out |= (x >> i & 1) << (31 - i);
    return out;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32); }
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    const unsigned long long both = static_cast<unsigned long long>(b) << 32 | a;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned select = selector >> (4 * i) & 15;
        unsigned byte = static_cast<unsigned>(both >> (8 * (select & 7))) & 255;
        if (select & 8) byte = byte & 128 ? 255 : 0; /* its sign */
        out |= byte << (8 * i);
    }
    return out;
}

/* ---- addresses and memory */

inline size_t __cvta_generic_to_shared(const void *pointer) { return emulate::shared_address(pointer); }
inline size_t __cvta_generic_to_global(const void *pointer) { return reinterpret_cast<size_t>(pointer); }
inline void *__cvta_shared_to_generic(size_t address)
{
    return emulate::shared_range(static_cast<unsigned>(address), 1, 1, "cvta");
}
inline bool __isShared(const void *pointer)
{
    return static_cast<size_t>(static_cast<const char *>(pointer) - emulate::here->window) < 1u << 24;
}
template <typename T>
inline T __ldg(const T *pointer)
{
    emulate::check_global(pointer, sizeof(T), "__ldg");
    return *pointer;
}
template <typename T>
inline T __ldcg(const T *pointer) { return __ldg(pointer); }
template <typename T>
inline T __ldcs(const T *pointer) { return __ldg(pointer); }
template <typename T>
inline void __stcs(T *pointer, T value) { *pointer = value; }
template <typename T>
inline void __stcg(T *pointer, T value) { *pointer = value; }
inline void __threadfence() { emulate::give_way(); }
inline void __threadfence_block() {}
inline void __threadfence_system() { emulate::give_way(); }
inline void __nanosleep(unsigned) { emulate::give_way(); }
[[noreturn]] inline void __trap() { emulate::fail("trap"); }
inline long long clock64() { return 0; }

template <typename T>
inline T atomicAdd(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    *at = old + value;
    return old;
}
template <typename T>
inline T atomicSub(T *at, std::common_type_t<T> value) { return atomicAdd(at, static_cast<T>(-value)); }
template <typename T>
inline T atomicMax(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    if (value > old) *at = value;
    return old;
}
template <typename T>
inline T atomicMin(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    if (value < old) *at = value;
    return old;
}
template <typename T>
inline T atomicOr(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    *at = old | value;
    return old;
}
template <typename T>
inline T atomicAnd(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    *at = old & value;
    return old;
}
template <typename T>
inline T atomicExch(T *at, std::common_type_t<T> value)
{
    const T old = *at;
    *at = value;
    return old;
}
template <typename T>
inline T atomicCAS(T *at, std::common_type_t<T> expected, std::common_type_t<T> value)
{
    const T old = *at;
    if (old == expected)
        *at = value;
    else
        emulate::give_way(); /* it may be a lock */
    return old;
}
inline unsigned atomicInc(unsigned *at, unsigned last)
{
    const unsigned old = *at;
    *at = old >= last ? 0 : old + 1;
    return old;
}

/* ---- barriers */

inline void __syncthreads() { emulate::block_barrier(0, 0, true); }
inline void __syncwarp(unsigned lanes = emulate::kAllLanes) { emulate::meet("__syncwarp", lanes, nullptr, nullptr); }
inline unsigned __activemask() { return emulate::kAllLanes; }

/* ---- what lanes of a warp tell each other */

namespace emulate {

template <typename T>
struct Told {
    T value; /* in, then out */
    int from; /* lane; negative: its own value */
};

template <typename T>
inline T tell(const char *what, unsigned lanes, T value, int from)
{
    Told<T> told = {value, from};
    meet(what, lanes, &told, [](void *const(&arguments)[32], unsigned all) {
        T values[32];
        for (unsigned left = all; left; left &= left - 1) {
            const int lane = __builtin_ctz(left);
            const Told<T> &mine = *static_cast<const Told<T> *>(arguments[lane]);
            const int source = mine.from < 0 ? lane : mine.from;
            if (!arguments[source]) fail("a shuffle from lane %d, which does not take part", source);
            values[lane] = static_cast<const Told<T> *>(arguments[source])->value;
        }
        for (unsigned left = all; left; left &= left - 1)
            static_cast<Told<T> *>(arguments[__builtin_ctz(left)])->value = values[__builtin_ctz(left)];
    });
    return told.value;
}

/* All lanes' values become one. */
template <typename T, typename Join>
inline T join(const char *what, unsigned lanes, T value, Join)
{
    meet(what, lanes, &value, [](void *const(&arguments)[32], unsigned all) {
        T joined = *static_cast<const T *>(arguments[__builtin_ctz(all)]);
        for (unsigned left = all & (all - 1); left; left &= left - 1)
            joined = Join::of(joined, *static_cast<const T *>(arguments[__builtin_ctz(left)]));
        for (unsigned left = all; left; left &= left - 1) *static_cast<T *>(arguments[__builtin_ctz(left)]) = joined;
    });
    return value;
}
struct Sum { template <typename T> static T of(T a, T b) { return a + b; } };
struct Least { template <typename T> static T of(T a, T b) { return b < a ? b : a; } };
struct Most { template <typename T> static T of(T a, T b) { return a < b ? b : a; } };
struct Either { template <typename T> static T of(T a, T b) { return a | b; } };
struct Both { template <typename T> static T of(T a, T b) { return a & b; } };
struct Odd { template <typename T> static T of(T a, T b) { return a ^ b; } };

inline unsigned my_bit() { return 1u << here->lane; }

} // namespace emulate

template <typename T>
inline T __shfl_sync(unsigned lanes, T value, int lane, int width = 32)
{
    const int me = emulate::here->lane;
    return emulate::tell("shfl", lanes, value, (me & ~(width - 1)) | (lane & (width - 1)));
}
template <typename T>
inline T __shfl_xor_sync(unsigned lanes, T value, int mask, int width = 32)
{
    const int me = emulate::here->lane, from = me ^ mask;
    return emulate::tell("shfl.bfly", lanes, value, (from & ~(width - 1)) > (me & ~(width - 1)) ? -1 : from);
}
template <typename T>
inline T __shfl_up_sync(unsigned lanes, T value, unsigned step, int width = 32)
{
    const int me = emulate::here->lane, in = me & (width - 1);
    return emulate::tell("shfl.up", lanes, value, in < static_cast<int>(step) ? -1 : me - static_cast<int>(step));
}
template <typename T>
inline T __shfl_down_sync(unsigned lanes, T value, unsigned step, int width = 32)
{
    const int me = emulate::here->lane, in = me & (width - 1);
    return emulate::tell("shfl.down", lanes, value, in + static_cast<int>(step) >= width ? -1 : me + static_cast<int>(step));
}
inline unsigned __ballot_sync(unsigned lanes, int predicate)
{
    return emulate::join("vote.ballot", lanes, predicate ? emulate::my_bit() : 0u, emulate::Either());
}
inline int __any_sync(unsigned lanes, int predicate)
{
    return emulate::join("vote.any", lanes, static_cast<unsigned>(predicate != 0), emulate::Either()) != 0;
}
inline int __all_sync(unsigned lanes, int predicate)
{
    return emulate::join("vote.all", lanes, static_cast<unsigned>(predicate != 0), emulate::Both()) != 0;
}
inline unsigned __reduce_add_sync(unsigned lanes, unsigned value)
{
    return emulate::join("redux.add", lanes, value, emulate::Sum());
}
inline int __reduce_add_sync(unsigned lanes, int value)
{
    return static_cast<int>(__reduce_add_sync(lanes, static_cast<unsigned>(value)));
}
template <typename T>
inline T __reduce_min_sync(unsigned lanes, T value) { return emulate::join("redux.min", lanes, value, emulate::Least()); }
template <typename T>
inline T __reduce_max_sync(unsigned lanes, T value) { return emulate::join("redux.max", lanes, value, emulate::Most()); }
inline unsigned __reduce_or_sync(unsigned lanes, unsigned value)
{
    return emulate::join("redux.or", lanes, value, emulate::Either());
}
inline unsigned __reduce_and_sync(unsigned lanes, unsigned value)
{
    return emulate::join("redux.and", lanes, value, emulate::Both());
}
inline unsigned __reduce_xor_sync(unsigned lanes, unsigned value)
{
    return emulate::join("redux.xor", lanes, value, emulate::Odd());
}
template <typename T>
inline unsigned __match_any_sync(unsigned lanes, T value)
{
    struct Match {
        T value;
        unsigned same;
    } match = {value, 0};
    emulate::meet("match.any", lanes, &match, [](void *const(&arguments)[32], unsigned all) {
        for (unsigned a = all; a; a &= a - 1)
            for (unsigned b = all; b; b &= b - 1)
                if (static_cast<Match *>(arguments[__builtin_ctz(a)])->value ==
                    static_cast<Match *>(arguments[__builtin_ctz(b)])->value)
                    static_cast<Match *>(arguments[__builtin_ctz(a)])->same |= b & -b;
    });
    return match.same;
}

/* ---- what the translator writes */

namespace emulate {

static unsigned static_shared_bytes; /* of this kernel's source */

/* The variables of one __shared__ declaration, as they are in the block that asks. */
template <typename Variables>
inline Variables &shared_variables(Slot &slot)
{
    const unsigned offset =
        slot_offset(slot, sizeof(Variables), alignof(Variables) > 16 ? alignof(Variables) : 16, static_shared_bytes);
    return *reinterpret_cast<Variables *>(here->window + offset);
}

/* Call a kernel with its parameters, each given by its address. */
template <typename... Parameters, size_t... place>
inline void call(void (*kernel)(Parameters...), void **parameters, std::index_sequence<place...>)
{
    kernel(*static_cast<std::remove_cv_t<Parameters> *>(parameters[place])...);
}
template <typename... Parameters>
inline void call(void (*kernel)(Parameters...), void **parameters)
{
    call(kernel, parameters, std::index_sequence_for<Parameters...>());
}

} // namespace emulate

#include "ptx.hpp"
