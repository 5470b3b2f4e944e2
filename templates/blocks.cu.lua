$ -- blocks: what stands between a host's block patterns and attention on lists: lists out of bits or index arrays, and the
$ -- order in which persistent blocks take their tiles.
$ local symbol = "tamis_" .. p.name
$ if p.threads % 32 ~= 0 then reject("threads must be whole warps") end
$ if p.order_threads % 32 ~= 0 then reject("order_threads must be whole warps") end
$ local warps = p.threads // 32
$ entry{stage = "blocks_bits", symbol = symbol .. "_bits", threads = p.threads, shared_bytes = 0, block_m = warps, block_n = 0}
$ entry{stage = "blocks_rows", symbol = symbol .. "_rows", threads = p.threads, shared_bytes = 0, block_m = warps, block_n = 0}
$ entry{stage = "blocks_order", symbol = symbol .. "_order", threads = p.order_threads, shared_bytes = 0, block_m = 1,
$       block_n = 0}
#include "kernel_args.h"
#include "ptx.cuh"
#include "block.cuh"
#include "blocks.cuh"

constexpr int kThreads = ${p.threads}; // of the kernels that make lists, one warp a list
constexpr int kWarps = kThreads / 32;
constexpr int kOrderThreads = ${p.order_threads};
constexpr int kBins = kOrderThreads; // of tiles whose lists are about equally long, and a last one for those without rows

// One warp a list. grid = (ceil(T / warps), Hq, B).
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}_bits(const __grid_constant__ tamis_blocks_bits_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, tile = blockIdx.x * kWarps + threadIdx.x / 32;
    if (tile >= args.lists.tiles) return;
    const long long place = (static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y) * args.lists.tiles + tile;
    const unsigned *bits = args.bits + place * args.words;
    int *list = args.lists.list + place * args.lists.row;
    const int words = tile / 32 + 1; // that have blocks up to the query block
    int count = 0;
    for (int first = 0; first < words; first += 32) { // a word a lane, then a bit a lane
        unsigned mine = first + lane < words ? bits[first + lane] : 0;
        if (first + lane == words - 1 && tile % 32 < 31) mine &= (2u << tile % 32) - 1;
        const int here = min(32, words - first);
        for (int i = 0; i < here; ++i) {
            const unsigned word = __shfl_sync(0xffffffffu, mine, i);
            if (word >> lane & 1) list[count + __popc(word & ((1u << lane) - 1))] = (first + i) * 32 + lane;
            count += __popc(word);
        }
    }
    if (lane == 0) args.lists.count[place] = count;
}

// The same. What the offsets say is kept to the array, and a list to its length, whatever they are.
extern "C" __global__ void __launch_bounds__(kThreads) ${symbol}_rows(const __grid_constant__ tamis_blocks_rows_args args)
{
    follow_stream();
    const int lane = threadIdx.x % 32, tile = blockIdx.x * kWarps + threadIdx.x / 32;
    if (tile >= args.lists.tiles) return;
    const long long place = (static_cast<long long>(blockIdx.z) * args.q_heads + blockIdx.y) * args.lists.tiles + tile;
    const long long begin = max(args.offsets[place], 0ll), end = min(args.offsets[place + 1], args.column_count);
    int *list = args.lists.list + place * args.lists.row;
    int count = 0;
    for (long long first = begin; first < end && count <= tile; first += 32) {
        const int entry = first + lane < end ? args.columns[first + lane] : kBlockNumber;
        const bool counts = (entry & kBlockNumber) <= tile;
        const unsigned all = __ballot_sync(0xffffffffu, counts);
        const int at = count + __popc(all & ((1u << lane) - 1));
        if (counts && at <= tile) list[at] = entry;
        count += __popc(all);
    }
    if (lane == 0) args.lists.count[place] = min(count, tile + 1);
}

// The bin of a section's `index`-th tile, the longest lists first; `place` receives where its list lies.
__device__ __forceinline__ int find_bin(const tamis_blocks_order_args &args, int first_head, int heads, int index, int &place)
{
    const int head = first_head + index % heads, tile = args.tiles - 1 - index / heads;
    const long long rows = args.kept ? args.kept[head / args.q_heads] : args.seq_len;
    place = head * args.tiles + tile;
    if (static_cast<long long>(tile) * kBlock >= rows) return kBins;
    const long long count = min(max(args.count[place], 0), args.tiles);
    return kBins - 1 - static_cast<int>(count * (kBins - 1) / args.tiles);
}

// One block a section of heads: a counting sort of its tiles. Within a bin they come about as they would without a sort, from
// the last query block to the first, a round of tiles after the other; inside of a round in any order, which no result depends
// on. grid = (sections).
extern "C" __global__ void __launch_bounds__(kOrderThreads)
    ${symbol}_order(const __grid_constant__ tamis_blocks_order_args args)
{
    __shared__ int s_bins[kBins + 1];
    __shared__ int s_warps[kOrderThreads / 32];
    follow_stream();
    const int thread = threadIdx.x, lane = thread % 32;
    const int first_head = blockIdx.x * args.section_heads, heads = min(args.section_heads, args.heads - first_head);
    const int tiles = heads * args.tiles;
    if (blockIdx.x == 0 && thread == 0) *args.counter = 0;
    s_bins[thread] = 0;
    if (thread == 0) s_bins[kBins] = 0;
    __syncthreads();
    int place;
    for (int index = thread; index < tiles; index += kOrderThreads)
        atomicAdd(&s_bins[find_bin(args, first_head, heads, index, place)], 1);
    __syncthreads();

    // Where each bin begins; the last one, behind the threads', begins where these end.
    int total;
    const int mine = s_bins[thread], upto = warp_inclusive_scan(mine);
    const int before = warps_exclusive_scan<kOrderThreads>(__shfl_sync(0xffffffffu, upto, 31), s_warps, total);
    s_bins[thread] = before + upto - mine;
    if (thread == 0) s_bins[kBins] = total;
    __syncthreads();
    int *order = args.order + static_cast<long long>(first_head) * args.tiles;
    for (int first = 0; first < tiles; first += kOrderThreads) {
        if (first + thread < tiles) {
            const int bin = find_bin(args, first_head, heads, first + thread, place);
            order[atomicAdd(&s_bins[bin], 1)] = place;
        }
        __syncthreads(); // the next round's tiles come behind these
    }
}
