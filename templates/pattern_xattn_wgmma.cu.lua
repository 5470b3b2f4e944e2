$ -- pattern_xattn_wgmma: pattern_xattn for Hopper (sm_90a): one warpgroup loads strided rows of Q and K, two multiply 64 rows
$ -- each. Two blocks, a cluster, have tiles of rows one below the other and the same tiles of columns, of which each loads half
$ -- for both: a step of 128 rows by 256 columns takes 32 KiB for 4.2 MFLOP, where L2's 5.5 TB/s can feed 720 TFLOP/s. The
$ -- tensor copy engine brings a tile's rows if all of their tokens are there, at even distances; of gathered queries, and where
$ -- a sequence ends, whose length the device alone may know, threads copy each row.
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local count = p.block_n // 2
$ local shared = p.stages * (128 + p.block_n) * 128 + 16 * p.stages
$ if p.cc ~= 90 then reject("wgmma is an instruction of sm_90a") end
$ if p.block_n % 32 ~= 0 then reject("block_n must be a multiple of 32: key blocks of any stride end with a tile") end
$ if shared + 8 * 128 > p.shared_limit then reject("more shared memory than a block may have") end
$ if p.producer_registers % 8 ~= 0 or p.consumer_registers % 8 ~= 0 then reject("register counts go in steps of 8") end
$ local given = use("registers").given(3)
$ if p.producer_registers + 2 * p.consumer_registers > given then reject("more registers than an SM has") end
$ if count + 30 > p.consumer_registers then reject("the products and their sums do not fit in consumer_registers") end
$ entry{stage = "pattern_xattn_tma", symbol = symbol, threads = 384, shared_bytes = shared, block_m = 128,
$       block_n = p.block_n // 2}
#include "pattern_args.h"
#include "cluster.cuh"
#include "hopper.cuh"
#include "xattn.cuh"

constexpr int kHeadDim = ${p.head_dim};
constexpr int kStages = ${p.stages}; // steps in flight: of 64 elements of each row
constexpr int kRows = 128, kColumns = ${p.block_n}; // of a tile
constexpr int kCluster = TAMIS_PATTERN_XATTN_CLUSTER;
constexpr int kShare = kColumns / kCluster; // columns that a block loads for its cluster
constexpr int kProducts = kColumns / 2;     // a thread
constexpr int kRowBytes = 128;              // of a step: 8 chunks of 16 bytes, swizzled
constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
constexpr int kRowChunks = kHeadDim / 8;            // a token
constexpr bool kEngine = kHeadDim % 64 == 0;        // steps lie within a token, as boxes do
constexpr int kBehind = 2;                          // steps that are still loading when the next one is started
constexpr int kLoadingWarps = 4;
constexpr int kComputing = 256; // threads
static_assert(kStages >= kBehind + 2, "a step is given back one step after its products were started");
static_assert(kCluster == 2, "each block's half of the columns is a box");

struct Shared {
    unsigned stages, barriers;
    __device__ __forceinline__ unsigned stage(int i) const { return stages + i * kStageBytes; }
    __device__ __forceinline__ unsigned full(int i) const { return barriers + 8 * i; }
    __device__ __forceinline__ unsigned empty(int i) const { return barriers + 8 * (kStages + i); }
};

// S antidiagonals are S * kHeadDim elements deep.
__device__ __forceinline__ int steps_a_tile(int stride) { return stride * kHeadDim / 64; }

// Tiles of columns that the cluster's rows see, the same in both blocks.
__device__ __forceinline__ int column_tiles(const XattnTile &tile)
{
    const long long end = (tile.tile / kCluster + 1) * static_cast<long long>(kRows * kCluster);
    return static_cast<int>((min(end, tile.reduced) + kColumns - 1) / kColumns);
}

// A cluster's tiles in their order: `take` gets the block's own. Both blocks come by the same ones.
template <typename Take>
__device__ __forceinline__ void for_each_tile(const tamis_pattern_xattn_args &args, Take take)
{
    const int rank = static_cast<int>(blockIdx.x) % kCluster;
    xattn_share<kRows, kCluster>(args, blockIdx.x / kCluster, gridDim.x / kCluster, [&](int item) {
        const XattnTile tile = xattn_tile<kRows, kCluster>(args, item, rank);
        if (tile.first_row - rank * kRows < tile.reduced) take(tile);
    });
}

// ---- the loading warpgroup

// One chunk of kCount rows, 16 rows of a tile apart: of tokens from `token` on, `step` apart, zeros behind the last one. A
// warp of these has few instructions to spare a copy, so that addresses are sums where all tokens are there.
template <int kCount>
__device__ __forceinline__ void load_rows(unsigned place, const HeadRows &rows, int token, int step, int count, int bytes)
{
    constexpr int kApart = 16 * kRowBytes, kGroup = kCount % 4 == 0 ? 4 : 2;
    static_assert(kCount % kGroup == 0, "rows of a tile come in groups");
    if (!rows.indices && token + (kCount - 1) * step < count) {
        const char *source = rows.first + token * rows.pitch + bytes;
        const long long pitch = step * rows.pitch;
#pragma unroll
        for (int i = 0; i < kCount; ++i, source += pitch) copy_async_16(place + i * kApart, source);
        return;
    }
#pragma unroll 1
    for (int first = 0; first < kCount; first += kGroup) {
        int at[kGroup]; // all are on their way before one is needed
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            at[i] = token + (first + i) * step;
            if (rows.indices && at[i] < count) at[i] = rows.indices[at[i]];
        }
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            const bool exists = token + (first + i) * step < count;
            copy_async_16(place + (first + i) * kApart, rows.first + (exists ? at[i] * rows.pitch + bytes : 0), exists);
        }
    }
}

// What is left of a step to threads. A thread has one chunk of every 16th row, which keeps its place in a swizzled row.
__device__ __forceinline__ void load_step(const XattnTile &tile, int stride, int column_tile, int within, unsigned s_stage,
                                          bool q, bool k)
{
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % 8, first = thread / 8;
    const int depth = within * 8 + chunk, t = depth / kRowChunks, bytes = depth % kRowChunks * 16;
    const unsigned place = s_stage + (chunk ^ first % 8) * 16 + first * kRowBytes;
    const int row = static_cast<int>(tile.first_row) + first, column = column_tile * kColumns + first;
    const int rows = static_cast<int>(tile.rows);
    if (q) load_rows<kRows / 16>(place, tile.q, row * stride + stride - 1 - t, 16 * stride, rows, bytes);
    if (k) load_rows<kColumns / 16>(place + kRows * kRowBytes, tile.k, column * stride + t, 16 * stride, rows, bytes);
    copy_async_commit();
}

// What the copy engine brings of a tile's rows, asked for by one thread: all of the block's of Q, or none, and the block's
// share of K's for both blocks.
struct Engine {
    const tamis_pattern_xattn_tma_args &args;
    const tamis_tensor_map *keys;
    int rank, key_head, head, sequence, first_row, last_of_group;

    __device__ __forceinline__ Engine(const tamis_pattern_xattn_tma_args &all, const XattnTile &tile)
        : args(all), rank(static_cast<int>(blockIdx.x) % kCluster), head(tile.head), sequence(tile.sequence),
          first_row(static_cast<int>(tile.first_row)), last_of_group(all.xattn.stride - 1)
    {
        const tamis_pattern_source &source = all.xattn.source;
        const bool full = source.k_full.data && tile.rows == source.seq_len; // as key_rows() has it
        keys = full ? &all.k_full : &all.k;
        key_head = tile.head / (source.q_heads / (full ? source.kv_heads : source.compact_heads));
    }
    __device__ __forceinline__ void bring(int column_tile, int within, unsigned s_stage, unsigned barrier, bool q, bool k) const
    {
        const int t = within / (kHeadDim / 64), element = within % (kHeadDim / 64) * 64;
        barrier_expect_more(barrier, ((q ? kRows : 0) + (k ? kColumns : 0)) * kRowBytes);
        if (q) strided_load(s_stage, &args.q, barrier, element, last_of_group - t, first_row, head, sequence);
        if (k)
            strided_load_shared(s_stage + (kRows + rank * kShare) * kRowBytes, keys, barrier, element, t,
                                column_tile * kColumns + rank * kShare, key_head, sequence, (1 << kCluster) - 1);
    }
};

// Steps whose copies this thread has started and not told of: up to kBehind.
struct Started {
    Ring<kStages> oldest;
    int count = 0;
    // Everything that came before the last kPending steps is there.
    template <int kPending>
    __device__ __forceinline__ void publish(const Shared &shared)
    {
        copy_async_wait<kPending>();
        fence_async_proxy();
        __syncwarp();
        if (threadIdx.x % 32 == 0) barrier_arrive(shared.full(oldest.stage));
        oldest.advance();
    }
    __device__ __forceinline__ void add(const Shared &shared, const Ring<kStages> &ring)
    {
        if (count == 0) oldest = ring;
        if (count < kBehind)
            ++count;
        else
            publish<kBehind>(shared);
    }
    __device__ __forceinline__ void publish_all(const Shared &shared)
    {
        for (; count > 0; --count) publish<0>(shared);
    }
};

__device__ __forceinline__ void load_tiles(const tamis_pattern_xattn_tma_args &args, const Shared &shared)
{
    Ring<kStages> ring;
    Started started;
    const int stride = args.xattn.stride, steps = steps_a_tile(stride);
    for_each_tile(args.xattn, [&](const XattnTile &tile) {
        const bool q = kEngine && !tile.q.indices && (tile.first_row + kRows) * stride <= tile.rows;
        const int tiles = column_tiles(tile);
        const Engine engine(args, tile);
        for (int column_tile = 0; column_tile < tiles; ++column_tile) {
            const bool k = kEngine && (column_tile + 1LL) * kColumns * stride <= tile.rows;
            if (q && k) started.publish_all(shared);
            for (int within = 0; within < steps; ++within) {
                barrier_wait(shared.empty(ring.stage), ring.phase ^ 1);
                if ((q || k) && threadIdx.x == 0)
                    engine.bring(column_tile, within, shared.stage(ring.stage), shared.full(ring.stage), q, k);
                if (q && k) {
                    if (threadIdx.x % 32 == 0) barrier_arrive(shared.full(ring.stage));
                } else {
                    load_step(tile, stride, column_tile, within, shared.stage(ring.stage), !q, !k);
                    started.add(shared, ring);
                }
                ring.advance();
            }
        }
    });
    started.publish_all(shared);
}

// ---- the computing warpgroups

// S = A B^T or S += A B^T, 16 deep.
$ for _, line in ipairs(use("wgmma").product{name = "wgmma", columns = p.block_n, type = type}) do
${line}
$ end

// A step goes back to both blocks, as either loads for the other.
__device__ __forceinline__ void give_back(unsigned empty, int lane)
{
    if (lane < kCluster) cluster_barrier_arrive(empty, lane);
}

// Products of a tile of columns, over all of its depth. A step is given back when the next one's products were started and its
// own are through.
__device__ __forceinline__ void multiply_tile(float (&s)[kProducts], const Shared &shared, Ring<kStages> &ring, int steps,
                                              int warpgroup, int lane)
{
    int before = 0;
    for (int step = 0; step < steps; ++step) {
        const unsigned stage = shared.stage(ring.stage);
        const unsigned a = descriptor_low(stage + warpgroup * 64 * kRowBytes, 0);
        const unsigned b = descriptor_low(stage + kRows * kRowBytes, 0);
        barrier_wait(shared.full(ring.stage), ring.phase);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) wgmma(s, matrix_descriptor(a, 32 * k), matrix_descriptor(b, 32 * k), step > 0 || k > 0);
        wgmma_commit();
        if (step > 0) {
            wgmma_wait<1>();
            give_back(shared.empty(before), lane);
        }
        before = ring.stage;
        ring.advance();
    }
    wgmma_wait<0>();
    pin_registers(s);
    give_back(shared.empty(before), lane);
}

__device__ __forceinline__ void estimate_tiles(const tamis_pattern_xattn_args &args, const Shared &shared, float2 *s_sums,
                                               int thread)
{
    Ring<kStages> ring;
    const int lane = thread % 32, warpgroup = thread / 128, row = thread / 32 * 16 + lane / 4;
    const int steps = steps_a_tile(args.stride);
    const float scale_log2 = args.source.scale_log2 / static_cast<float>(args.stride);
    float *scratch = args.scratch + static_cast<long long>(blockIdx.x) * kRows * args.lists.tiles;
    for_each_tile(args, [&](const XattnTile &tile) {
        const int tiles = column_tiles(tile);
        XattnSums sums;
        for (int column_tile = 0; column_tile < tiles; ++column_tile) {
            float s[kProducts];
            multiply_tile(s, shared, ring, steps, warpgroup, lane);
            const int last = static_cast<int>(tile.first_row) + row - column_tile * kColumns; // column that the row sees
            if (static_cast<long long>(column_tile + 1) * kColumns > tile.first_row)
#pragma unroll
                for (int i = 0; i < kProducts; ++i)
                    if (i / 4 * 8 + 2 * (lane % 4) + i % 2 > last + i % 4 / 2 * 8) s[i] = -kInfinity;
            xattn_store_sums(s, sums, scratch, args.lists.tiles, row, column_tile * kColumns, kBlock / args.stride, scale_log2,
                             lane);
        }
        xattn_share_sums(s_sums, sums, row, lane);
        named_sync(1, kComputing);
        xattn_write_estimates<kRows, 1, kComputing>(args, tile, scratch, s_sums, thread, [] { named_sync(1, kComputing); });
        named_sync(1, kComputing); // the next tile's sums take the place of these
    });
}

// grid = (clusters of two: at most the slots of scratch).
extern "C" __global__ void __launch_bounds__(384, 1)
${symbol}(const __grid_constant__ tamis_pattern_xattn_tma_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    __shared__ float2 s_sums[kRows];
    const unsigned memory = shared_address(s_memory);
    const Shared shared = {memory, memory + kStages * kStageBytes};
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(shared.full(stage), kLoadingWarps);
            barrier_init(shared.empty(stage), kComputing / 32 * kCluster);
        }
        barrier_init_fence();
    }
    follow_stream();
    cluster_sync<kCluster>(); // the barriers of both blocks are there
    if (warpgroup == 0) {
        give_registers<${p.producer_registers}>();
        load_tiles(args, shared);
    } else {
        take_registers<${p.consumer_registers}>();
        estimate_tiles(args.xattn, shared, s_sums, static_cast<int>(threadIdx.x) - 128);
    }
    cluster_sync<kCluster>(); // the other one may still load into this block's memory, and arrive at its barriers
}
