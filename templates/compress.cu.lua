$ -- compress: copies the kept rows of up to three tensors together. Elements are moved as 16-bit bits, so that one kernel
$ -- serves every dtype.
$ local symbol = "tamis_" .. p.name
$ local warps, at_once = p.threads // 32, 32 // (p.head_dim // 8)
$ local warp_rows = p.block_m // warps
$ if p.block_m < 16 then reject("of 2^24 rows and 1024 heads there would be too many blocks") end
$ if p.threads % 32 ~= 0 or p.block_m % warps ~= 0 then reject("block_m must share out evenly among the warps") end
$ if warp_rows > 32 then reject("a warp keeps the list of its rows in its lanes: at most 32") end
$ if warp_rows % at_once ~= 0 then reject("a warp moves " .. at_once .. " rows at once, and has a multiple of that") end
$ local flight = warp_rows // at_once
$ while flight > 8 and flight % 2 == 0 do flight = flight // 2 end
$ if flight > 8 then reject("more loads under way than registers hold") end
$ entry{stage = "compress", symbol = symbol, threads = p.threads, shared_bytes = 0, block_m = p.block_m, block_n = 0}
#include "kernel_args.h"
#include "ptx.cuh"
#include "rows.cuh"

constexpr int kBlockM = ${p.block_m}; // rows a block
constexpr int kThreads = ${p.threads};
constexpr int kChunks = ${p.head_dim // 8}; // 16-byte chunks a row, one a lane
constexpr int kAtOnce = ${at_once};         // rows that a warp's lanes move together
constexpr int kWarpRows = ${warp_rows};
constexpr int kFlight = ${flight}; // loads of a thread under way at once

// grid = (blocks of rows of the capacity, each for all heads of a run; runs of all tensors; B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_compress_args args)
{
    follow_stream();
    if (args.counter && threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0) *args.counter = 0;
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const int sequence = blockIdx.z, kept = args.kept[sequence];
    const int first = static_cast<int>(blockIdx.x / args.head_run) * kBlockM + warp * kWarpRows;
    if (first >= kept || (args.skip_dense && kept == args.seq_len)) return;

    int head = blockIdx.y * args.head_run + blockIdx.x % args.head_run, place = 0;
    while (head >= args.tensors[place].heads) head -= args.tensors[place++].heads;
    const tamis_compress_tensor &tensor = args.tensors[place];
    const int *token = index_list(args.indices, sequence, head / (tensor.heads / args.index_heads), args.index_heads,
                                  args.capacity);
    const int my_token = lane < kWarpRows && first + lane < kept ? token[first + lane] : 0;
    const int my_row = lane / kChunks % kAtOnce, chunk = lane % kChunks;
    const char *source = row_bytes(tensor.source, sequence, head / (tensor.heads / tensor.source_heads)) + chunk * 16;
    char *compact = row_bytes(tensor.compact, sequence, head) + chunk * 16;
    const long long source_pitch = 2 * tensor.source.row_stride, compact_pitch = 2 * tensor.compact.row_stride;
    const int rows = lane < kAtOnce * kChunks ? min(kWarpRows, kept - first) : 0; // for this lane to move
#pragma unroll 1
    for (int begin = 0; begin < kWarpRows; begin += kFlight * kAtOnce) {
        int4 value[kFlight];
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            const int row = begin + i * kAtOnce + my_row;
            const long long from = __shfl_sync(0xffffffffu, my_token, row) * source_pitch;
            if (row < rows) value[i] = load_once(source + from);
        }
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            const int row = begin + i * kAtOnce + my_row;
            if (row < rows) *reinterpret_cast<int4 *>(compact + (first + row) * compact_pitch) = value[i];
        }
    }
}
