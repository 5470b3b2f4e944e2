/*
 * attend_tma.cuh: what the Hopper attention kernels share of moving tiles: where these lie in shared memory, work handed from
 * the loading thread to everybody else, Q brought or gathered for it, rows of zeros for tokens that were dropped. Included
 * behind a kernel's constants and its struct Work (attend_wgmma.cu.lua), whose members it names.
 */
#pragma once

#include "dropped.cuh"
#include "hopper.cuh"
#include "softmax.cuh"
#include "tile.cuh"

constexpr int kThreads = 128 * (kWarpgroups + 1);
constexpr int kGatherWarps = 3; /* of the loading warpgroup, behind the first */
constexpr int kGatherThreads = 32 * kGatherWarps;

/* Rows in shared memory are cut into columns of 64 elements, 128 bytes, in which 16-byte chunks are swizzled. */
constexpr int kSubTiles = (kHeadDim + 63) / 64;
constexpr int kQueryBytes = kSubTiles * kBlockM * 128;
constexpr int kTileBytes = kSubTiles * kBlockN * 128; /* of one K or V tile */
constexpr int kTilesBytes = kQueryBytes + 2 * kStages * kTileBytes;
constexpr int kBarriersBytes = 256; /* and slots of work with them */

/* Where things lie in shared memory; tiles on 1024-byte boundaries, as the swizzle wants. */
struct Shared {
    unsigned q, k, v, barriers;
    Work *slots; // two, filled in turn
    __device__ __forceinline__ unsigned k_tile(int stage) const { return k + stage * kTileBytes; }
    __device__ __forceinline__ unsigned v_tile(int stage) const { return v + stage * kTileBytes; }
    __device__ __forceinline__ unsigned k_full(int stage) const { return barriers + 8 * stage; }
    __device__ __forceinline__ unsigned k_empty(int stage) const { return barriers + 8 * (kStages + stage); }
    __device__ __forceinline__ unsigned v_full(int stage) const { return barriers + 8 * (2 * kStages + stage); }
    __device__ __forceinline__ unsigned v_empty(int stage) const { return barriers + 8 * (3 * kStages + stage); }
    __device__ __forceinline__ unsigned q_full() const { return barriers + 8 * (4 * kStages); }
    __device__ __forceinline__ unsigned q_empty() const { return barriers + 8 * (4 * kStages + 1); }
    __device__ __forceinline__ unsigned work_full(int slot) const { return barriers + 8 * (4 * kStages + 2 + slot); }
    __device__ __forceinline__ unsigned work_empty(int slot) const { return barriers + 8 * (4 * kStages + 4 + slot); }
};

/* `extra` bytes of the kernel's own lie behind the tiles. */
__device__ __forceinline__ Shared shared_layout(char *memory, int extra)
{
    const int barriers = kTilesBytes + extra;
    const unsigned base = shared_address(memory);
    return {base, base + kQueryBytes, base + kQueryBytes + kStages * kTileBytes, base + barriers,
            reinterpret_cast<Work *>(memory + barriers + 8 * (4 * kStages + 6))};
}

/* One thread, before all others begin. */
__device__ __forceinline__ void init_barriers(const Shared &shared, bool gathers)
{
    const int query_threads = gathers ? kGatherThreads : 1;
    for (int stage = 0; stage < kStages; ++stage) {
        barrier_init(shared.k_full(stage), 1);
        barrier_init(shared.v_full(stage), 1);
        barrier_init(shared.k_empty(stage), 4 * kWarpgroups); // a warp each
        barrier_init(shared.v_empty(stage), 4 * kWarpgroups);
    }
    barrier_init(shared.q_full(), query_threads);
    barrier_init(shared.q_empty(), 4 * kWarpgroups);
    for (int slot = 0; slot < 2; ++slot) {
        barrier_init(shared.work_full(slot), 1);
        barrier_init(shared.work_empty(slot), 4 * kWarpgroups + query_threads);
    }
    barrier_init_fence();
}

/* A K or V tile from row `row` on, into a place that is free. */
__device__ __forceinline__ void load_tile(unsigned tile, unsigned full, const void *map, int row, int head, int sequence)
{
    barrier_expect(full, kTileBytes);
#pragma unroll
    for (int i = 0; i < kSubTiles; ++i) tensor_load(tile + i * kBlockN * 128, map, full, 64 * i, row, head, sequence);
}

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
