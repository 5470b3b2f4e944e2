$ -- pattern_xattn_wgmma: pattern_xattn for Hopper (sm_90a): one warpgroup gathers strided rows of Q and K with cp.async, two
$ -- multiply 64 rows each. Rows may lie anywhere, and end anywhere, which the tensor copy engine could not be told of a
$ -- length that the device knows. Tiles of 128 rows by 256 columns: a step takes 48 KiB for 4.2 MFLOP, of which L2, which gives
$ -- 5.8 TB/s, can feed 490 TFLOP/s.
$ local symbol = "tamis_" .. p.name
$ local type = p.dtype == "bf16" and "bf16" or "f16"
$ local count = p.block_n // 2
$ local stage_bytes = (128 + p.block_n) * 128
$ local shared = p.stages * stage_bytes + 16 * p.stages
$ if p.cc ~= 90 then reject("wgmma is an instruction of sm_90a") end
$ if p.block_n % 32 ~= 0 then reject("block_n must be a multiple of 32: key blocks of any stride end with a tile") end
$ if shared > p.shared_limit then reject("more shared memory than a block may have") end
$ if p.producer_registers % 8 ~= 0 or p.consumer_registers % 8 ~= 0 then reject("register counts go in steps of 8") end
$ local given = use("registers").given(3)
$ if p.producer_registers + 2 * p.consumer_registers > given then reject("more registers than an SM has") end
$ if count + 30 > p.consumer_registers then reject("the products and their sums do not fit in consumer_registers") end
$ entry{stage = "pattern_xattn", symbol = symbol, threads = 384, shared_bytes = shared, block_m = 128, block_n = 1}
$ local asm = use("asm")
#include "pattern_args.h"
#include "hopper.cuh"
#include "xattn.cuh"

constexpr int kHeadDim = ${p.head_dim};
constexpr int kStages = ${p.stages}; // steps in flight: of 64 elements of each row
constexpr int kRows = 128, kColumns = ${p.block_n}; // of a tile
constexpr int kProducts = kColumns / 2;             // a thread
constexpr int kRowBytes = 128;                      // of a step: 8 chunks of 16 bytes, swizzled
constexpr int kStageBytes = (kRows + kColumns) * kRowBytes;
constexpr int kRowChunks = kHeadDim / 8; // a token
constexpr int kBehind = 2;               // steps that are still loading when the next one is started
constexpr int kComputing = 256;          // threads
static_assert(kStages >= kBehind + 2, "a step is given back one step after its products were started");

struct Shared {
    unsigned stages, barriers;
    __device__ __forceinline__ unsigned stage(int i) const { return stages + i * kStageBytes; }
    __device__ __forceinline__ unsigned full(int i) const { return barriers + 8 * i; }
    __device__ __forceinline__ unsigned empty(int i) const { return barriers + 8 * (kStages + i); }
};

// S antidiagonals are S * kHeadDim elements deep.
__device__ __forceinline__ int steps_a_tile(int stride) { return stride * kHeadDim / 64; }
__device__ __forceinline__ int column_tiles(const XattnTile &tile)
{
    return ((tile.tile + 1) * kRows + kColumns - 1) / kColumns;
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

// A thread has one chunk of every 16th row, which keeps its place in a swizzled row.
__device__ __forceinline__ void load_step(const XattnTile &tile, int stride, int column_tile, int within, unsigned s_stage)
{
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % 8, first = thread / 8;
    const int depth = within * 8 + chunk, t = depth / kRowChunks, bytes = depth % kRowChunks * 16;
    const unsigned place = s_stage + (chunk ^ first % 8) * 16 + first * kRowBytes;
    const int row = static_cast<int>(tile.first_row) + first, column = column_tile * kColumns + first;
    const int rows = static_cast<int>(tile.rows);
    load_rows<kRows / 16>(place, tile.q, row * stride + stride - 1 - t, 16 * stride, rows, bytes);
    load_rows<kColumns / 16>(place + kRows * kRowBytes, tile.k, column * stride + t, 16 * stride, rows, bytes);
    copy_async_commit();
}

// Everything that came before the last kPending steps is there: tell of the oldest that was not told of.
template <int kPending>
__device__ __forceinline__ void publish(const Shared &shared, Ring<kStages> &told)
{
    copy_async_wait<kPending>();
    fence_async_proxy();
    barrier_arrive(shared.full(told.stage));
    told.advance();
}

__device__ __forceinline__ void load_tiles(const tamis_pattern_xattn_args &args, const Shared &shared)
{
    Ring<kStages> ring, told;
    const int items = xattn_items<kRows>(args), steps = steps_a_tile(args.stride);
    int started = 0; // up to kBehind
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const XattnTile tile = xattn_tile<kRows>(args, item);
        if (tile.first_row >= tile.reduced) continue;
        const int tiles = column_tiles(tile);
        for (int column_tile = 0; column_tile < tiles; ++column_tile)
            for (int within = 0; within < steps; ++within) {
                barrier_wait(shared.empty(ring.stage), ring.phase ^ 1);
                load_step(tile, args.stride, column_tile, within, shared.stage(ring.stage));
                ring.advance();
                if (started < kBehind)
                    ++started;
                else
                    publish<kBehind>(shared, told);
            }
    }
    for (; started > 0; --started) publish<0>(shared, told);
}

// ---- the computing warpgroups

// S += A B^T, 16 deep.
__device__ __forceinline__ void wgmma(float (&s)[kProducts], unsigned long long a, unsigned long long b, int accumulate)
{
    asm volatile("{\n"
                 ".reg .pred accumulate;\n"
                 "setp.ne.b32 accumulate, %${count + 2}, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n${p.block_n}k16.f32.${type}.${type} {"
$ for i = 0, count - 1, 8 do
                 "${string.sub(asm.operands(i, 8), 1, i + 8 < count and -1 or -3)}"
$ end
                 "}, %${count}, %${count + 1}, accumulate, 1, 1, 0, 0;\n"
                 "}"
                 : ${asm.outputs("s", 0, 8)}
$ for i = 8, count - 1, 8 do
                 , ${asm.outputs("s", i, 8)}
$ end
                 : "l"(a), "l"(b), "r"(accumulate));
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
            if (lane == 0) barrier_arrive(shared.empty(before));
        }
        before = ring.stage;
        ring.advance();
    }
    wgmma_wait<0>();
    pin_registers(s);
    if (lane == 0) barrier_arrive(shared.empty(before));
}

__device__ __forceinline__ void estimate_tiles(const tamis_pattern_xattn_args &args, const Shared &shared, float2 *s_sums,
                                               int thread)
{
    Ring<kStages> ring;
    const int lane = thread % 32, warpgroup = thread / 128, row = thread / 32 * 16 + lane / 4;
    const int items = xattn_items<kRows>(args), steps = steps_a_tile(args.stride);
    const float scale_log2 = args.source.scale_log2 / static_cast<float>(args.stride);
    float *scratch = args.scratch + static_cast<long long>(blockIdx.x) * kRows * args.lists.tiles;
    for (int item = blockIdx.x; item < items; item += gridDim.x) {
        const XattnTile tile = xattn_tile<kRows>(args, item);
        if (tile.first_row >= tile.reduced) continue;
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
    }
}

// grid = (at most the slots of scratch).
extern "C" __global__ void __launch_bounds__(384, 1)
${symbol}(const __grid_constant__ tamis_pattern_xattn_args args)
{
    extern __shared__ __align__(1024) char s_memory[];
    __shared__ float2 s_sums[kRows];
    const unsigned memory = shared_address(s_memory);
    const Shared shared = {memory, memory + kStages * kStageBytes};
    const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            barrier_init(shared.full(stage), 128);
            barrier_init(shared.empty(stage), kComputing / 32);
        }
        barrier_init_fence();
    }
    follow_stream();
    __syncthreads();
    if (warpgroup == 0) {
        give_registers<${p.producer_registers}>();
        load_tiles(args, shared);
    } else {
        take_registers<${p.consumer_registers}>();
        estimate_tiles(args, shared, s_sums, static_cast<int>(threadIdx.x) - 128);
    }
}
