/*
 * machine.hpp: the emulated GPU from inside: a launch with the clusters that run, their blocks, warps and threads. Kernels do
 * not see this. One launch at a time, all on one thread of the process.
 */
#pragma once

#include "emulate.hpp"
#include "fiber.hpp"

#include <cstdarg>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace emulate {

struct Cluster;
struct Block;
struct Warp;

/* What a cp.async is to do. */
struct Copy {
    char *to;
    const char *from;
    unsigned bytes, valid_bytes;
};

struct Thread {
    Place place;
    Fiber fiber;
    Cluster *cluster;
    Block *block;
    Warp *warp;
    const char *waits_for = nullptr; /* the instruction; null: it runs or can run */
    bool polls = false, ended = false;
    bool arrived_in_cluster = false; /* and has not waited yet */
    unsigned cluster_phase = 0;      /* in which it arrived */
    unsigned barrier = 0;            /* mbarrier that it waits for; 0: none */
    std::vector<Copy> copies;        /* cp.async that are not done, the oldest first */
    std::vector<size_t> group_ends;  /* of those committed */
    std::vector<std::vector<Copy>> bulk_stores; /* by group; the last one is open */
};

/* Lanes of a warp that wait for each other. */
struct Meeting {
    unsigned lanes = 0, arrived = 0;
    const char *what = nullptr;
    void *arguments[32] = {};
};

struct PendingProducts; /* wgmma.cpp */

struct Warp {
    std::vector<Thread *> threads;
    unsigned ready = 0, ended = 0; /* by lane */
    unsigned registers = 0;        /* that setmaxnreg has set for each lane; 0: not yet */
    std::vector<Meeting> meetings;
    std::shared_ptr<PendingProducts> products;
};

struct BlockBarrier {
    int threads = 0, arrived = 0; /* threads 0: whoever has not ended */
    std::vector<Thread *> waiting;
};

struct TransactionBarrier { /* mbarrier */
    unsigned arrivals, pending;
    long long bytes; /* announced, and not there yet */
    unsigned phase;
};

struct Block {
    std::vector<Warp> warps;
    std::vector<Thread> threads;
    unsigned alive;
    char *memory;                         /* shared.cpp */
    std::vector<unsigned short> unfenced; /* by 16 bytes of it: one more than the thread that wrote them, or 0 */
    BlockBarrier barriers[16];
    std::map<unsigned, TransactionBarrier> transaction_barriers; /* by offset */
    std::vector<std::vector<unsigned long long>> warpgroup_products; /* descriptors, to be the same in four warps */
    std::vector<std::vector<const void *>> warpgroup_places; /* of the other wgmma instructions, to be the same too */
};

/* A copy under way that ends in an arrival at, or in bytes for, a barrier. */
struct Transfer {
    std::vector<Copy> copies;
    unsigned barrier; /* with the rank of its block */
    unsigned bytes;   /* that the barrier counts; 0: an arrival instead */
    Thread *thread;   /* that has started it */
    Block *target;    /* where it writes */
};

struct Cluster {
    std::vector<Block> blocks;
    unsigned alive; /* threads */
    unsigned arrived = 0, phase = 0;
    std::vector<Thread *> waiting;
    std::vector<std::unique_ptr<Transfer>> transfers;
};

struct Launch {
    std::string symbol;
    void (*entry)(void **params);
    void **params;
    Index grid, block, cluster;
    unsigned shared_bytes;
    unsigned resident_blocks; /* that the GPU has room for */
    std::vector<std::unique_ptr<Cluster>> clusters; /* that run */
    unsigned long long next_cluster = 0, cluster_count = 0;
    unsigned ready = 0, polling = 0; /* threads */
    unsigned long long random;
    bool copies_end_soon = false, interrupts = false; /* drawn for each launch; see schedule.cpp */
    bool failed = false;
    std::string message;
};

extern Launch *launch;  /* the one that runs */
extern Thread *current; /* whose place `here` is */

/* schedule.cpp. The driver's code of what came of it; its text is in launch.message. */
bool run(Launch &what);
void wait_here(const char *what); /* until somebody wakes the thread */
void wake(Thread &thread);
void wake_lanes(Warp &warp, unsigned lanes); /* none of which polls, or is ready */
void interrupt();                            /* another warp may run first */
unsigned random_below(unsigned count);

/* fault.cpp. From now on a kernel's signals are failures of its launch; until they are released. */
void catch_faults();
void release_faults();

/* meet.cpp. A thread has ended: who waits for it? */
void leave_meetings(Thread &thread);

/* shared.cpp */
void open_memory(Block &block);
void end_memory(const Block &block); /* nothing was written behind the end? Nobody may read it any more */
void close_memory(Block &block);
Block &block_of(unsigned address); /* in the current cluster, by the rank in it; the current block where none is */
unsigned offset_of(unsigned address);
void mark_stored(Block &block, const char *at, unsigned bytes, unsigned mark); /* mark: as in unfenced */
void check_fenced(unsigned address, const char *what);                         /* of the 16 bytes there */
const char *memory_fault(const void *address); /* what of the current block lies there, in words */

/* copies.cpp */
bool deliver_one(Cluster &cluster); /* one transfer, if any is under way */

/* wgmma.cpp */
void end_products(Thread &thread);

} // namespace emulate
