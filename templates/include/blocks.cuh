/*
 * blocks.cuh: lists of blocks as block_args.h has them: the part of a list that counts, what an entry says, and masks of
 * partly visible blocks on logits in the layout of softmax.cuh.
 */
#pragma once

#include "block_args.h"
#include "ptx.cuh"

constexpr int kBlock = TAMIS_BLOCK; // queries, and keys, of a block
constexpr int kBlockNumber = (1 << TAMIS_BLOCK_BITS) - 1;

/*
 * A list without entries is attended to as one that has the query block itself, of which no key is seen: so that every tile
 * has a step, after which its rows are found to have seen nothing.
 */
constexpr int kNothing = static_cast<int>(1u << 31);

struct BlockList {
    const int *entries;
    int count;
};

/* The list of query block `tile` of a head, `head` counted through all sequences. Blocks behind the tile are left out. */
__device__ __forceinline__ BlockList find_list(const tamis_block_lists &lists, int head, int tile)
{
    const long long place = static_cast<long long>(head) * lists.tiles + tile;
    BlockList list = {lists.list + place * lists.row, min(lists.count[place], lists.row)};
    while (list.count > 0 && (list.entries[list.count - 1] & kBlockNumber) > tile) --list.count;
    return list;
}

/* The block's number. An ascending list, cut short as above, never needs the bound; it keeps others inside the tensors. */
__device__ __forceinline__ int block_number(int entry, int tile) { return min(entry & kBlockNumber, tile); }

/* Is the entry other than a block that is seen whole? */
__device__ __forceinline__ bool is_partial(int entry) { return entry & ~kBlockNumber; }

/*
 * Take away what an entry's mask does not let the thread's two rows see: of the block's keys `first_key` and on, its rows
 * `row` and `row + 8`. lane = 4 * g + t.
 */
template <int kLogits>
__device__ __forceinline__ void mask_block(float (&s)[kLogits], const tamis_block_lists &lists, int entry, int row,
                                           int first_key, int lane)
{
    constexpr int kWords = kLogits / 16; // of 32 keys
    static_assert(kLogits % 16 == 0, "masks are read 32 keys at a time");
    const int mask = entry >> TAMIS_BLOCK_BITS;
    if (mask > lists.mask_count || mask == 0) return;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const long long at = static_cast<long long>(mask - 1) * TAMIS_BLOCK_MASK_WORDS + (row + 8 * half) * 4 + first_key / 32;
#pragma unroll
        for (int word = 0; word < kWords; ++word) {
            const unsigned bits = mask < 0 ? 0 : lists.masks[at + word] >> 2 * (lane % 4);
#pragma unroll
            for (int n = 0; n < 4; ++n)
#pragma unroll
                for (int i = 0; i < 2; ++i)
                    if (!(bits >> (8 * n + i) & 1)) s[16 * word + 4 * n + 2 * half + i] = -kInfinity;
        }
    }
}
