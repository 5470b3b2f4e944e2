/*
 * shared.cpp: the shared memory of blocks, in which what was not written is NaN.
 *
 * The window of a block: a page that may not be touched; dynamic shared memory, from offset 4096 on, and what is left of its
 * last page, which must stay as it was; another such page; static variables; another such page. An address has the offset in
 * its low 24 bits, and above them, where it is of the cluster's window, a block's rank and one more.
 */
#include "machine.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace emulate {

static const size_t page = 4096, dynamic_begin = page, static_bytes = 64 << 10; /* more than a block may have */
static const int unwritten = 0xff; /* a NaN of every type */
static const unsigned rank_shift = 24;

static size_t pages(size_t bytes) { return (bytes + page - 1) / page * page; }
static size_t static_begin() { return dynamic_begin + pages(launch->shared_bytes) + page; }
static size_t window_bytes() { return static_begin() + static_bytes + page; }

static std::multimap<size_t, char *> free_windows; /* by their dynamic bytes, in pages */

static void forbid(char *memory) { mprotect(memory, page, PROT_NONE); }

void open_memory(Block &block)
{
    const auto found = free_windows.find(pages(launch->shared_bytes));
    if (found != free_windows.end()) {
        block.memory = found->second;
        free_windows.erase(found);
    } else {
        void *memory = mmap(nullptr, window_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) abort();
        block.memory = static_cast<char *>(memory);
        forbid(block.memory);
        forbid(block.memory + static_begin() - page);
        forbid(block.memory + window_bytes() - page);
    }
    memset(block.memory + dynamic_begin, unwritten, pages(launch->shared_bytes));
    memset(block.memory + static_begin(), unwritten, static_bytes);
    block.unfenced.assign(window_bytes() / 16, 0);
}

void end_memory(const Block &block)
{
    const char *end = block.memory + dynamic_begin + launch->shared_bytes;
    const size_t behind = pages(launch->shared_bytes) - launch->shared_bytes;
    for (size_t i = 0; i < behind; i++)
        if (static_cast<unsigned char>(end[i]) != unwritten && !launch->failed) {
            launch->failed = true;
            launch->message = launch->symbol + ": " + std::to_string(i) + " bytes behind the end of its " +
                              std::to_string(launch->shared_bytes) + " bytes of shared memory there was written";
        }
    memset(block.memory + dynamic_begin, unwritten, launch->shared_bytes);
    memset(block.memory + static_begin(), unwritten, static_bytes);
}

void close_memory(Block &block)
{
    free_windows.emplace(pages(launch->shared_bytes), block.memory);
    block.memory = nullptr;
}

const char *memory_fault(const void *address)
{
    const char *at = static_cast<const char *>(address), *window = current->block->memory;
    if (at < window || at >= window + window_bytes()) return nullptr;
    return at < window + dynamic_begin  ? "right before its shared memory"
           : at < window + static_begin() ? "right behind its dynamic shared memory"
                                          : "behind its static shared memory";
}

/* ---- addresses */

unsigned slot_offset(Slot &slot, size_t bytes, size_t alignment, unsigned &used)
{
    if (slot.offset == 0) { /* the same for all blocks, whatever dynamic memory a launch has: from the static part's begin */
        const size_t begin = (used + alignment - 1) / alignment * alignment;
        used = static_cast<unsigned>(begin + bytes + 16); /* a gap, in which there are NaNs */
        slot.offset = static_cast<unsigned>(begin + 1);
    }
    if (used > static_bytes) fail("%u bytes of static shared memory", used);
    return static_cast<unsigned>(static_begin()) + slot.offset - 1;
}

char *dynamic_shared(unsigned alignment)
{
    if (dynamic_begin % alignment != 0) fail("shared memory on a multiple of %u", alignment);
    return here->window + dynamic_begin;
}

static char *memory_of(const void *pointer, unsigned *rank)
{
    const char *at = static_cast<const char *>(pointer);
    for (Block &block : current->cluster->blocks)
        if (at >= block.memory && at < block.memory + window_bytes()) {
            *rank = block.threads[0].place.rank;
            return block.memory;
        }
    fail("address %p is not in shared memory", pointer);
}

unsigned shared_address(const void *pointer)
{
    const char *at = static_cast<const char *>(pointer);
    if (at >= here->window && at < here->window + window_bytes()) return static_cast<unsigned>(at - here->window);
    unsigned rank;
    const char *memory = memory_of(pointer, &rank);
    return static_cast<unsigned>(at - memory) | (rank + 1) << rank_shift;
}

char *shared_of_rank(const void *own, unsigned rank)
{
    unsigned from;
    const char *memory = memory_of(own, &from);
    if (rank >= current->cluster->blocks.size())
        fail("mapa: no block %u in a cluster of %zu", rank, current->cluster->blocks.size());
    return current->cluster->blocks[rank].memory + (static_cast<const char *>(own) - memory);
}

unsigned offset_of(unsigned address) { return address & ((1u << rank_shift) - 1); }

unsigned shared_address_of_rank(unsigned own, unsigned rank)
{
    if (rank >= current->cluster->blocks.size())
        fail("mapa: no block %u in a cluster of %zu", rank, current->cluster->blocks.size());
    return offset_of(own) | (rank + 1) << rank_shift;
}

Block &block_of(unsigned address)
{
    const unsigned rank = address >> rank_shift;
    if (rank == 0) return *current->block;
    if (rank > current->cluster->blocks.size()) fail("shared address %08x is of no block of the cluster", address);
    return current->cluster->blocks[rank - 1];
}

char *shared_range(unsigned address, unsigned bytes, unsigned alignment, const char *what)
{
    Block &block = block_of(address);
    const size_t offset = offset_of(address), end = offset + bytes;
    const bool in_dynamic = offset >= dynamic_begin && end <= dynamic_begin + launch->shared_bytes;
    const bool in_static = offset >= static_begin() && end <= static_begin() + static_bytes;
    if (!in_dynamic && !in_static)
        fail("%s: %u bytes at %lld of %u bytes of shared memory", what, bytes,
             static_cast<long long>(offset) - static_cast<long long>(dynamic_begin), launch->shared_bytes);
    if (address % alignment != 0) fail("%s: shared address %x is no multiple of %u", what, address, alignment);
    if (block.alive == 0) fail("%s: the block whose shared memory it is has ended", what);
    return block.memory + offset;
}

char *shared_memory(unsigned address, unsigned bytes, const char *what) { return shared_range(address, bytes, bytes, what); }

/* ---- stores that another proxy may not see yet */

void mark_stored(Block &block, const char *at, unsigned bytes, unsigned mark)
{
    const size_t first = static_cast<size_t>(at - block.memory) / 16;
    for (size_t i = first; i < first + (bytes + 15) / 16; i++) block.unfenced[i] = static_cast<unsigned short>(mark);
}

static unsigned my_mark() { return static_cast<unsigned>(here->warp * 32 + here->lane) + 1; }

void note_store(unsigned address, unsigned bytes)
{
    Block &block = block_of(address);
    mark_stored(block, block.memory + offset_of(address), bytes, my_mark());
}

void fence_stores()
{
    for (unsigned short &mark : current->block->unfenced)
        if (mark == my_mark()) mark = 0;
}

void check_fenced(unsigned address, const char *what)
{
    const unsigned mark = current->block->unfenced[offset_of(address) / 16];
    if (mark) fail("%s: thread %u has written what it reads without a fence.proxy.async since", what, mark - 1);
}

void check_global(const void *pointer, unsigned bytes, const char *what)
{
    if (!pointer) fail("%s: a null pointer", what);
    if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) fail("%s: address %p is no multiple of %u", what, pointer, bytes);
}

} // namespace emulate
