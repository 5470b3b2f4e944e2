$ -- compress: copies the kept rows of one tensor together. Elements are moved as 16-bit bits, so that one kernel serves every
$ -- dtype.
$ local symbol = "tamis_" .. p.name
$ local chunks = p.head_dim // 8
$ if p.threads < chunks then reject("threads must cover one row of " .. chunks .. " chunks") end
$ entry{stage = "compress", symbol = symbol, threads = p.threads, shared_bytes = 0, block_m = p.block_m, block_n = 0}
#include "kernel_args.h"
#include "rows.cuh"

constexpr int kBlockM = ${p.block_m}; // rows a block
constexpr int kThreads = ${p.threads};
constexpr int kChunks = ${chunks}; // 16-byte chunks a row

// grid = (blocks of rows of the capacity, H, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_compress_args args)
{
    const int head = blockIdx.y, sequence = blockIdx.z;
    const int kept = args.kept[sequence];
    const int first = blockIdx.x * kBlockM;
    if (first >= kept || (args.skip_dense && kept == args.seq_len)) return;

    const int *token = index_list(args.indices, sequence, head / (args.heads / args.index_heads), args.index_heads,
                                  args.capacity);
    const char *source = row_bytes(args.source, sequence, head / (args.heads / args.source_heads));
    char *compact = row_bytes(args.compact, sequence, head);
    const int rows = min(kBlockM, kept - first);
#pragma unroll 4
    for (int i = threadIdx.x; i < rows * kChunks; i += kThreads) {
        const int row = first + i / kChunks, chunk = i % kChunks;
        const int4 value = load_once(source + 2 * args.source.row_stride * token[row] + chunk * 16);
        *reinterpret_cast<int4 *>(compact + 2 * args.compact.row_stride * row + chunk * 16) = value;
    }
}
