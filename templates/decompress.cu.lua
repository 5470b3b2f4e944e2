$ -- decompress: puts compact rows back at their tokens' places and writes zeros everywhere else; without compact rows (the
$ -- attention kernel has scattered its own) it writes the zeros only.
$ local symbol = "tamis_" .. p.name
$ local chunks = p.head_dim // 8
$ entry{stage = "decompress", symbol = symbol, threads = p.threads, shared_bytes = 0, block_m = p.block_m, block_n = 0}
#include "kernel_args.h"
#include "rows.cuh"

constexpr int kBlockM = ${p.block_m}; // tokens a block
constexpr int kThreads = ${p.threads};
constexpr int kChunks = ${chunks}; // 16-byte chunks a row
constexpr int kDropped = -1;

// First position in the ascending list whose token is at or behind `bound`.
__device__ __forceinline__ int lower_bound(const int *token, int count, int bound)
{
    int low = 0, high = count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (token[middle] < bound)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// grid = (blocks of tokens of the sequence, Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}(const __grid_constant__ tamis_decompress_args args)
{
    __shared__ int s_row[kBlockM]; // compact row of each of the block's tokens, or kDropped
    const int head = blockIdx.y, sequence = blockIdx.z;
    const int kept = args.kept[sequence], seq_len = static_cast<int>(args.seq_len);
    if (kept == seq_len && !args.compact.data) return; // nothing was dropped

    const int first = blockIdx.x * kBlockM;
    const int tokens = min(kBlockM, seq_len - first);
    const int *token = index_list(args.indices, sequence, head / (args.q_heads / args.index_heads), args.index_heads,
                                  args.capacity);
    for (int i = threadIdx.x; i < tokens; i += kThreads) s_row[i] = kDropped;
    const int begin = lower_bound(token, kept, first); // the same search in every thread: no barrier, and all hits
    __syncthreads();
    for (int i = begin + threadIdx.x; i < kept && i < begin + tokens; i += kThreads)
        if (token[i] < first + tokens) s_row[token[i] - first] = i;
    __syncthreads();

    char *output = row_bytes(args.output, sequence, head);
    const char *compact = args.compact.data ? row_bytes(args.compact, sequence, head) : nullptr;
    for (int i = threadIdx.x; i < tokens * kChunks; i += kThreads) {
        const int row = s_row[i / kChunks], chunk = i % kChunks;
        if (row != kDropped && !compact) continue;
        int4 value = make_int4(0, 0, 0, 0);
        if (row != kDropped) value = load_once(compact + 2 * args.compact.row_stride * row + chunk * 16);
        *reinterpret_cast<int4 *>(output + 2 * args.output.row_stride * (first + i / kChunks) + chunk * 16) = value;
    }
    if (!args.lse) return;
    const long long list = static_cast<long long>(sequence) * args.q_heads + head;
    for (int i = threadIdx.x; i < tokens; i += kThreads) {
        const int row = s_row[i];
        if (row == kDropped)
            args.lse[list * seq_len + first + i] = __builtin_bit_cast(float, 0xff800000);
        else if (args.compact_lse)
            args.lse[list * seq_len + first + i] = args.compact_lse[list * args.capacity + row];
    }
}
