/*
 * attend_tma.cuh: what the Hopper attention kernels share: tiles of work handed from the loading thread to everybody else, Q
 * brought or gathered for them, rows of zeros for tokens that were dropped, and what happens to P, O and V in a step. Included
 * behind a kernel's constants and its structs Work and Shared (attend_wgmma.cu.lua), whose members it names.
 */
#pragma once

#include "dropped.cuh"
#include "hopper.cuh"
#include "softmax.cuh"
#include "tile.cuh"

/* Hand a tile of work to everybody else. */
__device__ __forceinline__ void publish(const Shared &shared, const Work &work, unsigned number)
{
    const int slot = number % 2;
    barrier_wait(shared.work_empty(slot), number / 2 % 2 ^ 1);
    shared.slots[slot] = work;
    barrier_arrive(shared.work_full(slot));
}

/* The index list of a tile's head, or null. */
__device__ __forceinline__ const int *token_list(const tamis_attend_args &attend, const Work &work)
{
    if (!attend.indices) return nullptr;
    const int index_head = work.head / (attend.q_heads / attend.index_heads);
    return attend.indices + (static_cast<long long>(work.sequence) * attend.index_heads + index_head) * attend.capacity;
}

/*
 * Warps 1 to 3: the Q rows of a tile, through the index list. A lane fetches the token of one row of 32, so that all the copies
 * are under way at once.
 */
__device__ __forceinline__ void gather_queries(const tamis_attend_args &attend, const Shared &shared, const Work &work,
                                               int thread)
{
    constexpr int kNone = -1;
    const int *token = token_list(attend, work);
    const int lane = lane_id();
    const WarpRows<kHeadDim> mine(lane);
    const char *q = row_pointer(attend.q, work.sequence, work.head, 0) + mine.chunk * 16;
    const unsigned column = shared.q + mine.chunk / 8 * kBlockM * 128;
#pragma unroll 1
    for (int first = thread / 32 * 32; first < kBlockM; first += kGatherThreads) {
        const int at = work.first_row + first + lane;
        const int my_token = at < work.rows ? token[at] : kNone;
#pragma unroll 4
        for (int i = 0; i < 32; i += WarpRows<kHeadDim>::kAtOnce) {
            const int row = first + i + mine.row, source = __shfl_sync(0xffffffffu, my_token, i + mine.row);
            const bool valid = source != kNone;
            if (mine.moves)
                copy_async_16(column + row * 128 + (mine.chunk % 8 ^ row % 8) * 16,
                              q + (valid ? 2 * attend.q.row_stride * source : 0), valid);
        }
    }
    copy_async_commit();
    copy_async_wait<0>();
    fence_async_proxy();
    barrier_arrive(shared.q_full());
}

/*
 * Warps 1 to 3: zeros to the rows of tokens that the tile's head dropped, and -inf to their log-sum-exp: of each tile and warp
 * an equal part of the sequence. The computing warps have their Q by now and do not wait for this. What is left in shared
 * memory is read there again and again, as registers are few.
 */
__device__ __forceinline__ void write_dropped_part(const tamis_attend_args &attend, const Work &work, int thread)
{
    const int seq_len = static_cast<int>(attend.seq_len), rows = work.rows;
    if (rows == seq_len) return;
    const int parts = (rows + kBlockM - 1) / kBlockM * kGatherWarps;
    const int part = work.first_row / kBlockM * kGatherWarps + thread / 32;
    const int tokens = ((seq_len + parts - 1) / parts + 31) / 32 * 32; // a part's; the last parts may have none
    const int first = part * tokens;
    const int *token = token_list(attend, work);
    const int lane = lane_id();
    const auto token_at = [&](int at) { return at < work.rows ? token[at] : kNoToken; };
    walk_tokens(token_at, rows, first, min(first + tokens, seq_len), lane, [&](int base, unsigned, unsigned dropped, int) {
        if (dropped == 0) return;
        const long long pitch = 2 * attend.output.row_stride;
        write_zeros<kHeadDim>(row_bytes(attend.output, work.sequence, work.head) + base * pitch, pitch, dropped, lane);
        if (attend.lse && dropped >> lane & 1)
            attend.lse[(static_cast<long long>(work.sequence) * attend.q_heads + work.head) * attend.lse_rows + base + lane] =
                -kInfinity;
    });
}

/* The Q tiles: gathered by three warps, or brought by the copy engine for one thread. */
template <typename Args>
__device__ __forceinline__ void load_queries(const Args &args, const Shared &shared, int thread)
{
    const bool gathers = args.attend.indices != nullptr;
    if (!gathers && thread > 0) return;
    for (unsigned number = 0;; ++number) {
        const int slot = number % 2;
        barrier_wait(shared.work_full(slot), number / 2 % 2);
        const Work &work = shared.slots[slot];
        if (work.steps == 0) return;
        barrier_wait(shared.q_empty(), number % 2 ^ 1);
        if (gathers) {
            gather_queries(args.attend, shared, work, thread);
            write_dropped_part(args.attend, work, thread);
        } else {
            barrier_expect(shared.q_full(), kQueryBytes);
#pragma unroll
            for (int i = 0; i < kSubTiles; ++i)
                tensor_load(shared.q + i * kBlockM * 128, &args.q, shared.q_full(), 64 * i, work.first_row, work.head,
                            work.sequence);
        }
        barrier_arrive(shared.work_empty(slot));
    }
}

__device__ __forceinline__ void pack_probabilities(unsigned (&p)[kBlockN / 4], const float (&s)[kLogits])
{
#pragma unroll
    for (int i = 0; i < kBlockN / 4; ++i) p[i] = Element::pack(s[2 * i], s[2 * i + 1]);
}

__device__ __forceinline__ void rescale_output(float (&o)[kOutputs], const Softmax &state)
{
    if (!state.grown) return;
#pragma unroll
    for (int i = 0; i < kOutputs; ++i) o[i] *= state.scale[i / 2 % 2];
}

/* Zero the rows of a V tile behind the sequence's last: their probabilities are 0, but 0 times stale bits need not be. */
__device__ __forceinline__ void clear_values(unsigned tile, int first, int thread)
{
    for (int i = first * 8 + thread; i < kBlockN * 8; i += 128 * kWarpgroups)
#pragma unroll
        for (int sub = 0; sub < kSubTiles; ++sub)
            store_shared_16(tile + sub * kBlockN * 128 + i * 16, 0, 0);
}
