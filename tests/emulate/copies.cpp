/*
 * copies.cpp: copies to shared memory that go on while threads do other things, and the barriers that count what has come.
 *
 * A copy's place is NaN from its start to its end, and its end is as late as can be: a cp.async ends where its thread waits for
 * it, all others when no thread can run.
 */
#include "machine.hpp"

#include "fake_cuda.h"

#include <algorithm>
#include <cstring>

namespace emulate {

static const int under_way = 0xff;

static void do_copy(const Copy &copy)
{
    memcpy(copy.to, copy.from, copy.valid_bytes);
    memset(copy.to + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
}

/* By the copy engine, which needs no fence. */
static void do_engine_copy(Block &block, const Copy &copy)
{
    do_copy(copy);
    mark_stored(block, copy.to, copy.bytes, 0);
}

static void do_thread_copy(const Thread &thread, const Copy &copy)
{
    do_copy(copy);
    mark_stored(*thread.block, copy.to, copy.bytes, static_cast<unsigned>(thread.place.warp * 32 + thread.place.lane) + 1);
}

/* An address that is in no memory shall be found where it is given. */
static void touch(const void *from, size_t bytes)
{
    const volatile char *at = static_cast<const volatile char *>(from);
    if (bytes > 0) (void)at[0], (void)at[bytes - 1];
}

/* ---- cp.async */

void copy_async(unsigned to, const void *from, unsigned bytes, unsigned valid_bytes)
{
    char *place = shared_memory(to, bytes, "cp.async");
    check_global(from, bytes, "cp.async");
    if (valid_bytes > bytes) fail("cp.async: %u of %u bytes", valid_bytes, bytes);
    touch(from, valid_bytes);
    memset(place, under_way, bytes);
    current->copies.push_back({place, static_cast<const char *>(from), bytes, valid_bytes});
}

void copy_async_commit() { current->group_ends.push_back(current->copies.size()); }

/* The first `count` copies of a thread, and with them those whose end is an arrival. */
static void finish_copies(Thread &thread, size_t count)
{
    for (auto &transfer : thread.cluster->transfers)
        if (transfer->thread == &thread && transfer->bytes == 0) {
            for (const Copy &copy : transfer->copies) do_thread_copy(thread, copy);
            transfer->copies.clear();
        }
    for (size_t i = 0; i < count; i++) do_thread_copy(thread, thread.copies[i]);
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

void copy_async_wait(unsigned pending_groups)
{
    std::vector<size_t> &ends = current->group_ends;
    if (ends.size() <= pending_groups) return;
    const size_t done = ends.size() - pending_groups, copies = ends[done - 1];
    finish_copies(*current, copies);
    ends.erase(ends.begin(), ends.begin() + static_cast<std::ptrdiff_t>(done));
    for (size_t &end : ends) end -= copies;
}

void copy_async_wait_all()
{
    finish_copies(*current, current->copies.size());
    current->group_ends.clear();
}

void copy_async_arrive(unsigned barrier)
{
    auto transfer = std::make_unique<Transfer>();
    transfer->copies = std::move(current->copies);
    transfer->barrier = barrier;
    transfer->bytes = 0;
    transfer->thread = current;
    transfer->target = current->block;
    current->copies.clear();
    for (size_t &end : current->group_ends) end = 0;
    current->cluster->transfers.push_back(std::move(transfer));
}

/* ---- barriers that count arrivals and bytes */

/* What stands in shared memory where such a barrier is: whoever writes there destroys it. */
static const unsigned long long barrier_mark = 0x6d62617272696572ull;

static TransactionBarrier *look_for_barrier(unsigned address)
{
    auto &barriers = block_of(address).transaction_barriers;
    const auto found = barriers.find(offset_of(address));
    return found == barriers.end() ? nullptr : &found->second;
}

static TransactionBarrier &find_barrier(unsigned address, const char *what)
{
    unsigned long long mark;
    memcpy(&mark, shared_memory(address, 8, what), sizeof mark);
    TransactionBarrier *barrier = look_for_barrier(address);
    if (!barrier) fail("%s: there is no barrier at %x", what, address);
    if (mark != barrier_mark) fail("%s: the barrier at %x was written over", what, address);
    return *barrier;
}

static void wake_waiting(Block &block, unsigned offset)
{
    for (Thread &thread : block.threads)
        if (thread.barrier == offset) {
            thread.barrier = 0;
            wake(thread);
        }
}

static void complete_phase(Block &block, unsigned offset)
{
    TransactionBarrier &barrier = block.transaction_barriers[offset];
    if (barrier.pending > 0 || barrier.bytes != 0) return;
    barrier.pending = barrier.arrivals;
    barrier.phase++;
    wake_waiting(block, offset);
}

void barrier_init(unsigned address, unsigned arrivals)
{
    char *place = shared_memory(address, 8, "mbarrier.init");
    if (arrivals < 1 || arrivals >= 1u << 20) fail("mbarrier.init: %u arrivals", arrivals);
    memcpy(place, &barrier_mark, sizeof barrier_mark);
    block_of(address).transaction_barriers[offset_of(address)] = {arrivals, arrivals, 0, 0};
}

void barrier_end(unsigned address)
{
    find_barrier(address, "mbarrier.inval");
    block_of(address).transaction_barriers.erase(offset_of(address));
    memset(shared_memory(address, 8, "mbarrier.inval"), under_way, 8);
}

void barrier_expect(unsigned address, unsigned bytes)
{
    TransactionBarrier &barrier = find_barrier(address, "mbarrier.expect_tx");
    barrier.bytes += bytes;
    if (barrier.bytes >= 1 << 20) fail("mbarrier.expect_tx: %lld bytes are more than it counts", barrier.bytes);
}

void barrier_arrive(unsigned address, unsigned count)
{
    TransactionBarrier &barrier = find_barrier(address, "mbarrier.arrive");
    if (count > barrier.pending) fail("mbarrier.arrive: %u more than the %u that it waits for", count, barrier.pending);
    barrier.pending -= count;
    complete_phase(block_of(address), offset_of(address));
}

static bool is_through(const TransactionBarrier &barrier, unsigned parity) { return (barrier.phase & 1) != (parity & 1); }

bool barrier_test(unsigned address, unsigned parity)
{
    if (is_through(find_barrier(address, "mbarrier.test_wait"), parity)) return true;
    give_way();
    return is_through(find_barrier(address, "mbarrier.test_wait"), parity);
}

void barrier_wait(unsigned address, unsigned parity)
{
    if (address >> 24) fail("mbarrier.try_wait: barriers of other blocks cannot be waited for");
    if (is_through(find_barrier(address, "mbarrier.try_wait"), parity)) return;
    current->barrier = address;
    wait_here("mbarrier.try_wait");
}

/* ---- bulk copies */

static Transfer &start_transfer(unsigned to, unsigned barrier, unsigned bytes)
{
    find_barrier(barrier, "cp.async.bulk");
    auto transfer = std::make_unique<Transfer>();
    transfer->barrier = barrier;
    transfer->bytes = bytes;
    transfer->thread = current;
    transfer->target = &block_of(to);
    current->cluster->transfers.push_back(std::move(transfer));
    return *current->cluster->transfers.back();
}

void bulk_load(unsigned to, const void *from, unsigned bytes, unsigned barrier)
{
    if (bytes == 0 || bytes % 16 != 0) fail("cp.async.bulk: %u bytes", bytes);
    char *place = shared_range(to, bytes, 16, "cp.async.bulk");
    check_global(from, 16, "cp.async.bulk");
    touch(from, bytes);
    memset(place, under_way, bytes);
    start_transfer(to, barrier, bytes).copies.push_back({place, static_cast<const char *>(from), bytes, bytes});
}

void bulk_store(void *to, unsigned from, unsigned bytes)
{
    if (bytes == 0 || bytes % 16 != 0) fail("cp.async.bulk: %u bytes", bytes);
    const char *source = shared_range(from, bytes, 16, "cp.async.bulk");
    check_global(to, 16, "cp.async.bulk");
    if (current->bulk_stores.empty()) current->bulk_stores.emplace_back();
    current->bulk_stores.back().push_back({static_cast<char *>(to), source, bytes, bytes});
}

void bulk_commit() { current->bulk_stores.emplace_back(); }

/* Reading and writing end together here, and so as late as a wait for either allows. */
void bulk_wait(unsigned pending_groups, bool)
{
    auto &groups = current->bulk_stores;
    while (groups.size() > pending_groups + 1) {
        for (const Copy &copy : groups.front()) do_copy(copy);
        groups.erase(groups.begin());
    }
}

/* ---- tensor copies: boxes of a tensor, swizzled on the way */

static void check_map(const fake_cuda_map &map, const void *address, size_t coordinates)
{
    if (reinterpret_cast<uintptr_t>(address) % 64 != 0) fail("a tensor map at %p, which is no multiple of 64", address);
    if (map.mark != FAKE_CUDA_MAP) fail("what is read as a tensor map is none");
    if (map.rank != coordinates) fail("%zu coordinates in a tensor of %u dimensions", coordinates, map.rank);
    for (unsigned i = 0; i < map.rank; i++)
        if (map.steps[i] != 1) fail("a tensor map with steps, which this does not know");
}

/* The rows of the box, each as a copy of 16-byte pieces; outside of the tensor there are zeros. */
static void plan_box(Transfer &transfer, const fake_cuda_map &map, char *to, unsigned offset, const int *at)
{
    const unsigned element = map.type == 7 ? 4 : 2, row_bytes = map.box[0] * element;
    const unsigned swizzle_mask = map.swizzle == 0 ? 0 : (1u << map.swizzle) - 1; /* of the 16-byte pieces */
    const unsigned rows = map.box[1] * (map.rank > 2 ? map.box[2] : 1u) * (map.rank > 3 ? map.box[3] : 1u) *
                          (map.rank > 4 ? map.box[4] : 1u);
    for (unsigned row = 0; row < rows; row++) {
        unsigned rest = row;
        bool inside = true;
        const char *source = static_cast<const char *>(map.address);
        for (unsigned d = 1; d < map.rank; d++) {
            const long long place = at[d] + static_cast<long long>(rest % map.box[d]);
            rest /= map.box[d];
            inside = inside && place >= 0 && static_cast<unsigned long long>(place) < map.sizes[d];
            source += place * static_cast<long long>(map.strides[d - 1]);
        }
        for (unsigned piece = 0; piece < row_bytes; piece += 16) {
            const long long first = at[0] + static_cast<long long>(piece / element);
            const long long left = inside && first >= 0 ? static_cast<long long>(map.sizes[0]) - first : 0;
            const unsigned valid = static_cast<unsigned>(std::max(0ll, std::min(16ll, left * element)));
            const unsigned flat = row * row_bytes + piece, address = offset + flat;
            const unsigned place = flat ^ (((address >> 7) & swizzle_mask) << 4);
            const char *from = valid ? source + first * element : to;
            touch(from, valid);
            transfer.copies.push_back({to + place, from, 16, valid});
        }
    }
}

void tensor_load(unsigned to, const void *address, unsigned barrier, std::initializer_list<int> at)
{
    fake_cuda_map map;
    memcpy(&map, address, sizeof map);
    check_map(map, address, at.size());
    unsigned bytes = map.type == 7 ? 4 : 2;
    for (unsigned i = 0; i < map.rank; i++) bytes *= map.box[i];
    const unsigned alignment = map.swizzle == 3 ? 1024 : map.swizzle == 2 ? 512 : map.swizzle == 1 ? 256 : 128;
    char *place = shared_range(to, bytes, alignment, "cp.async.bulk.tensor");
    memset(place, under_way, bytes);
    plan_box(start_transfer(to, barrier, bytes), map, place, offset_of(to), at.begin());
}

/* Each block's copy ends when it will. */
void tensor_load_shared(unsigned to, const void *map, unsigned barrier, std::initializer_list<int> at, unsigned blocks)
{
    if (blocks == 0 || blocks >> current->cluster->blocks.size())
        fail("multicast: blocks %#x, which the cluster has not", blocks);
    for (unsigned rank = 0; blocks >> rank; rank++)
        if (blocks >> rank & 1)
            tensor_load(shared_address_of_rank(to, rank), map, shared_address_of_rank(barrier, rank), at);
}

/* ---- the end of a transfer */

bool deliver_one(Cluster &cluster)
{
    auto &transfers = cluster.transfers;
    if (transfers.empty()) return false;
    /* Bulk copies overtake each other; what a thread has started by itself ends in order. */
    size_t which = random_below(static_cast<unsigned>(transfers.size()));
    if (transfers[which]->bytes == 0)
        for (which = 0; transfers[which]->bytes != 0;) which++;
    const std::unique_ptr<Transfer> transfer = std::move(transfers[which]);
    transfers.erase(transfers.begin() + static_cast<std::ptrdiff_t>(which));
    current = transfer->thread; /* whose block addresses are of */
    Block &block = block_of(transfer->barrier);
    const unsigned offset = offset_of(transfer->barrier);
    if (block.alive == 0) {
        launch->failed = true;
        launch->message = launch->symbol + ": a block ends while copies to its shared memory are under way";
        return true;
    }
    for (const Copy &copy : transfer->copies)
        if (transfer->bytes == 0)
            do_thread_copy(*transfer->thread, copy);
        else
            do_engine_copy(*transfer->target, copy);
    TransactionBarrier &barrier = block.transaction_barriers[offset];
    if (transfer->bytes == 0)
        barrier.pending--;
    else
        barrier.bytes -= transfer->bytes;
    complete_phase(block, offset);
    current = nullptr;
    return true;
}

} // namespace emulate
