$ -- decompress: puts compact rows back at their tokens' places and writes zeros everywhere else; without compact rows (the
$ -- attention kernel has scattered its own) it writes the zeros only.
$ local symbol = "tamis_" .. p.name
$ if p.threads % 32 ~= 0 or p.block_m % p.threads ~= 0 then reject("block_m must be 32 tokens, or a multiple, for each warp") end
$ entry{stage = "decompress", symbol = symbol, threads = p.threads, shared_bytes = 0, block_m = p.block_m, block_n = 0}
#include "kernel_args.h"
#include "ptx.cuh"
#include "rows.cuh"
#include "dropped.cuh"

constexpr int kHeadDim = ${p.head_dim};
constexpr int kBlockM = ${p.block_m}; // tokens a block
constexpr int kThreads = ${p.threads};
constexpr int kWarpTokens = kBlockM / (kThreads / 32); // a warp walks through these
constexpr int kFlight = 4;                             // loads of a thread under way at once

using Rows = WarpRows<kHeadDim>;

// The kept ones of the 32 rows that begin at `output`, from compact rows that follow each other.
__device__ __forceinline__ void copy_kept(char *output, long long pitch, const char *compact, long long compact_pitch,
                                          unsigned kept, int lane)
{
    const Rows mine(lane);
    const unsigned bits = mine.moves ? kept : 0;
    output += mine.chunk * 16;
    compact += mine.chunk * 16;
#pragma unroll 1
    for (int first = mine.row; first < 32; first += kFlight * Rows::kAtOnce) {
        int4 value[kFlight];
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            const int row = first + i * Rows::kAtOnce;
            if (bits >> row & 1) value[i] = load_once(compact + __popc(bits & ((1u << row) - 1)) * compact_pitch);
        }
#pragma unroll
        for (int i = 0; i < kFlight; ++i) {
            const int row = first + i * Rows::kAtOnce;
            if (bits >> row & 1) store_once(output + row * pitch, value[i]);
        }
    }
}

// grid = (blocks of tokens of the sequence, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_decompress_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0);
    const int head = blockIdx.y, sequence = blockIdx.z;
    const int kept = args.kept[sequence], seq_len = static_cast<int>(args.seq_len);
    if (kept == seq_len && !args.compact.data) return; // nothing was dropped

    const int *token = index_list(args.indices, sequence, head / (args.q_heads / args.index_heads), args.index_heads,
                                  args.capacity);
    const auto token_at = [&](int at) { return at < kept ? token[at] : kNoToken; };
    const int first = static_cast<int>(blockIdx.x) * kBlockM + warp * kWarpTokens, end = min(first + kWarpTokens, seq_len);
    const long long list = static_cast<long long>(sequence) * args.q_heads + head;
    const long long pitch = 2 * args.output.row_stride, compact_pitch = 2 * args.compact.row_stride;
    char *output = row_bytes(args.output, sequence, head);
    const char *compact = args.compact.data ? row_bytes(args.compact, sequence, head) : nullptr;
    walk_tokens(token_at, kept, first, end, lane, [&](int base, unsigned is_kept, unsigned dropped, int row) {
        if (compact) copy_kept(output + base * pitch, pitch, compact + row * compact_pitch, compact_pitch, is_kept, lane);
        write_zeros<kHeadDim>(output + base * pitch, pitch, dropped, lane);
        if (!args.lse) return;
        float *lse = args.lse + list * seq_len + base + lane;
        if (dropped >> lane & 1)
            *lse = __builtin_bit_cast(float, 0xff800000);
        else if (compact && is_kept >> lane & 1)
            *lse = args.compact_lse[list * args.capacity + row + __popc(is_kept & ((1u << lane) - 1))];
    });
}
