/*
 * dropped.cuh: which tokens of a range a list keeps, for a warp that walks through the range, and rows of zeros for those
 * that it drops. All lanes of a warp call these together.
 */
#pragma once

#include "kernel_args.h"
#include "rows.cuh"

constexpr int kNoToken = 0x7fffffff; /* behind all others */

/*
 * First position whose token is at or behind `bound`. A round cuts what is left into 32 parts: for 131072 entries four loads
 * that wait for each other, where halving would take seventeen.
 */
template <typename TokenAt>
__device__ __forceinline__ int find_token(TokenAt token_at, int count, int bound, int lane)
{
    int begin = 0, left = count; // the answer is in begin ... begin + left
    while (left > 0) {
        const int part = (left + 31) / 32, last = (lane + 1) * part - 1; // of this lane's part
        const bool before = last < left && token_at(begin + last) < bound;
        const int parts = __popc(__ballot_sync(0xffffffffu, before)); // that lie before the bound as a whole: the first ones
        begin += parts * part;
        left = min(part - 1, left - parts * part);
    }
    return begin;
}

/*
 * Walk through the tokens first ... end - 1, 32 at a time: visit(base, kept, dropped, row) is given, for the tokens base ...
 * base + 31, a bit for each that is in the list, one for each that is not (none at or behind `end`), and the list's position
 * of the first at or behind base. token_at(i) is the list's entry i, which ascend without repeats, or kNoToken from `count`.
 */
template <typename TokenAt, typename Visit>
__device__ __forceinline__ void walk_tokens(TokenAt token_at, int count, int first, int end, int lane, Visit visit)
{
    if (first >= end) return;
    int row = find_token(token_at, count, first, lane);
    // 64 entries of the list, whose first half has `row` in it: the next 32 tokens are among them.
    int now = token_at((row & ~31) + lane), next = token_at((row & ~31) + 32 + lane);
#pragma unroll 1
    for (int base = first; base < end; base += 32) {
        const unsigned place = now - base, next_place = next - base; // tokens passed wrap around to large numbers
        const unsigned seen =
            __reduce_or_sync(0xffffffffu, (place < 32 ? 1u << place : 0) | (next_place < 32 ? 1u << next_place : 0));
        const unsigned exists = end - base < 32 ? (1u << (end - base)) - 1 : 0xffffffffu;
        const int here = row;
        row += __popc(seen);
        if ((row ^ here) >= 32) { // before the visit, to be under way meanwhile
            now = next;
            next = token_at((row & ~31) + 32 + lane);
        }
        visit(base, seen & exists, ~seen & exists, here);
    }
}

/* How a warp shares out rows: each takes kHeadDim / 8 lanes of 16 bytes, and a few are moved at once. */
template <int kHeadDim>
struct WarpRows {
    static constexpr int kChunks = kHeadDim / 8;
    static constexpr int kAtOnce = 32 / kChunks;
    static_assert(kAtOnce > 0, "a row has at most 32 chunks");
    int row, chunk; /* this lane's */
    bool moves;     /* false: a lane too many */
    __device__ __forceinline__ explicit WarpRows(int lane)
        : row(lane / kChunks % kAtOnce), chunk(lane % kChunks), moves(lane < kAtOnce * kChunks)
    {
    }
};

/* Zeros to the rows whose bit is set, of 32 that begin at `output` and lie `pitch` bytes apart. */
template <int kHeadDim>
__device__ __forceinline__ void write_zeros(char *output, long long pitch, unsigned dropped, int lane)
{
    const WarpRows<kHeadDim> mine(lane);
    const unsigned bits = mine.moves ? dropped >> mine.row : 0;
    char *out = output + mine.row * pitch + mine.chunk * 16;
#pragma unroll 4
    for (int i = 0; i < 32; i += WarpRows<kHeadDim>::kAtOnce) {
        if (bits >> i & 1) store_once(out, make_int4(0, 0, 0, 0));
        out += WarpRows<kHeadDim>::kAtOnce * pitch;
    }
}
