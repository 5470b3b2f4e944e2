/*
 * softmax.cuh: online softmax on the accumulators of a product, wgmma's or mma.sync's: of sixteen rows a thread holds two,
 * `g` and `g + 8`, logit s[4 * n + 2 * half + i] being column 8 * n + 2 * t + i of row `half` (lane = 4 * g + t). Mathematics:
 * Milakov and Gimelshein, arXiv 1805.02867.
 */
#pragma once

#include "ptx.cuh"
#include "tile.cuh"

/*
 * 2^x on the FMA pipe, for x up to 16: split off the integer, which becomes the exponent, and take the minimax polynomial of
 * the rest; relative error 1e-4, below what rounding a probability to 16 bits costs.
 */
__device__ __forceinline__ float exp2_emulated(float x)
{
    const float magic = 12582912.0f; // 1.5 * 2^23: its unit in the last place is 1
    x = fmaxf(x, -126.0f);
    const float rounded = x + magic, f = x - (rounded - magic);
    const float y = fmaf(fmaf(fmaf(0.0558263f, f, 0.2401397f), f, 0.6931531f), f, 0.9999926f);
    return __int_as_float(__float_as_int(y) + (__float_as_int(rounded) << 23));
}

/* The running softmax of a thread's two rows. */
struct Softmax {
    float max[2];   // of the raw logits; what probabilities and sums are relative to
    float sum[2];   // this lane's part
    float scale[2]; // of O and the sums to the newest maximum
    bool grown;     // does any row of the warp have to be rescaled?
};

/* The largest logit of row `half`, over the row's four lanes. Four chains, as one would be as slow as it is long. */
template <int kLogits>
__device__ __forceinline__ float row_peak(const float (&s)[kLogits], int half)
{
    float peaks[4] = {s[2 * half], s[2 * half + 1], s[2 * half + 4], s[2 * half + 5]};
#pragma unroll
    for (int n = 2; n < kLogits / 4; ++n) {
        peaks[2 * (n % 2)] = fmaxf(peaks[2 * (n % 2)], s[4 * n + 2 * half]);
        peaks[2 * (n % 2) + 1] = fmaxf(peaks[2 * (n % 2) + 1], s[4 * n + 2 * half + 1]);
    }
    return quad_max(fmaxf(fmaxf(peaks[0], peaks[1]), fmaxf(peaks[2], peaks[3])));
}

/*
 * Turn logits into probabilities relative to the row's maximum, or to the one before where it grew by at most `threshold`
 * (log2 units). kFirst: the row's first block. kMasked: a row may see none of the block's keys. kSums: add up the
 * probabilities. kEmulated: percent of the exponentials that the FMA pipe computes.
 */
template <bool kFirst, bool kMasked, bool kSums, int kEmulated, int kLogits>
__device__ __forceinline__ void softmax_step(float (&s)[kLogits], Softmax &state, float scale_log2, float threshold)
{
    bool grown = false;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float peak = row_peak(s, half);
        if (!kFirst) {
            const bool grows = (peak - state.max[half]) * scale_log2 > threshold;
            grown |= grows;
            peak = grows ? peak : state.max[half];
            state.scale[half] = kMasked && peak == -kInfinity ? 1.0f : exp2_approx((state.max[half] - peak) * scale_log2);
        }
        state.max[half] = peak;
        const float base = kMasked && peak == -kInfinity ? 0.0f : peak * scale_log2;
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int at = 4 * n + 2 * half + i;
                const float x = fmaf(s[at], scale_log2, -base);
                const bool emulated = (2 * n + i) * kEmulated / 100 != (2 * n + i + 1) * kEmulated / 100;
                s[at] = emulated ? exp2_emulated(x) : exp2_approx(x);
                if (kSums) sums[i] += s[at];
            }
        if (kSums) state.sum[half] = kFirst ? sums[0] + sums[1] : fmaf(state.sum[half], state.scale[half], sums[0] + sums[1]);
    }
    if (!kFirst) state.grown = __any_sync(0xffffffffu, grown);
}

/*
 * The same without looking for a maximum: probabilities relative to what they were relative to before, however large they
 * become. `sums` gets the lane's part of the two rows' sums, which tell whether that went well; state.sum stays.
 */
template <int kLogits>
__device__ __forceinline__ void exponentiate(float (&s)[kLogits], const Softmax &state, float scale_log2, float (&sums)[2])
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const float base = state.max[half] * scale_log2;
        float parts[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const int at = 4 * n + 2 * half + i;
                s[at] = exp2_approx(fmaf(s[at], scale_log2, -base));
                parts[i] += s[at];
            }
        sums[half] = parts[0] + parts[1];
    }
}

/*
 * Are a warp's sums, and so the probabilities in them, small enough to be stored in 16 bits and to be added up in fp32 for
 * 2^60 keys? What is infinite, as of a row that had seen no key, is not; what is not a number stays so anyway.
 */
template <typename Element>
__device__ __forceinline__ bool sums_fit(const float (&sums)[2])
{
    return !__any_sync(0xffffffffu, sums[0] > Element::kMostSum || sums[1] > Element::kMostSum);
}

/* What kSums would have added up, as a step of its own: the probabilities of the block that softmax_step has just made. */
template <bool kFirst, int kLogits>
__device__ __forceinline__ void add_probabilities(const float (&s)[kLogits], Softmax &state)
{
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int n = 0; n < kLogits / 4; ++n) {
            sums[0] += s[4 * n + 2 * half];
            sums[1] += s[4 * n + 2 * half + 1];
        }
        state.sum[half] = kFirst ? sums[0] + sums[1] : fmaf(state.sum[half], state.scale[half], sums[0] + sums[1]);
    }
}

/* Keys behind a row's last one become -inf. `last_key` of the thread's two rows is relative to the block. */
template <int kLogits>
__device__ __forceinline__ void mask_logits(float (&s)[kLogits], int last_key, int last_key_below, int lane)
{
#pragma unroll
    for (int n = 0; n < kLogits / 4; ++n)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int column = 8 * n + 2 * (lane % 4) + i;
            if (column > last_key) s[4 * n + i] = -kInfinity;
            if (column > last_key_below) s[4 * n + 2 + i] = -kInfinity;
        }
}
