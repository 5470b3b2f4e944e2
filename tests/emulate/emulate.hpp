/*
 * emulate.hpp: what a translated kernel calls; the emulated GPU as kernels see it.
 *
 * The emulator runs the project's true kernels on a CPU, so that tests without a GPU execute them. It is a libcuda and an NVRTC
 * (the fakes beside this folder, with an engine behind them): what NVRTC "compiles" is the kernel's text, which is translated
 * to C++ (translate.hpp) and compiled by g++ against device.hpp and ptx.hpp when it is loaded (library.cpp). A launch then runs
 * each thread as a fiber (schedule.cpp). Threads of a warp meet at warp-level instructions, those of a block at its barriers.
 *
 * What it finds beside wrong results: threads of a warp that meet at different instructions, or wait for one that has ended;
 * deadlocks; addresses outside of shared memory or misaligned for what is read or written; shared memory that is read before it
 * is written (it begins as NaN); data of an asynchronous copy or product that is read before it was waited for, or whose source
 * or place is used again too early (until they are done, what they write is NaN; products are done as late as their waits
 * allow, and so are copies, but in some launches at any time before); products of what cp.async or st.shared has written
 * without a proxy fence of the same thread; warps of a warpgroup at different wgmma instructions; warps that take more
 * registers than others give back; shared memory of a block that has ended; device memory beyond an allocation.
 *
 * What it does not model: time, other use of registers, caches, the memory model (other fences do nothing; a warp is
 * interrupted only where its lanes have met, so that some races do not show), more than one launch at a time, how an SM rounds
 * within a product.
 *
 * The environment: that of fake_cuda.h; TAMIS_EMULATE_CACHE, a folder for compiled kernels; EMULATE_SEED, another order in
 * which warps run and copies end (1).
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace emulate {

struct Index {
    unsigned x, y, z;
};

/* Where the thread is that runs. */
struct Place {
    Index thread, block, cluster; /* threadIdx, blockIdx, and which cluster of the grid */
    Index block_size, grid_size, cluster_size;
    unsigned rank;  /* of the block in its cluster */
    int lane, warp; /* in the warp, in the block */
    char *window;   /* where address 0 of the shared window is; see shared.cpp */
};
extern const Place *here;

/* End the launch: the driver returns an error with this text, preceded by the kernel, block and thread. */
[[noreturn]] __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

/* Let others run: what this thread looks for is not there yet. */
void give_way();

/* ---- meetings */

constexpr unsigned kAllLanes = 0xffffffffu;

/* Called once for all, when the last lane is there; arguments by lane, null of those that do not take part. */
using Act = void (*)(void *const (&arguments)[32], unsigned lanes);

/* The lanes of a warp that are set in `lanes` wait for each other at the same instruction, `what`. */
void meet(const char *what, unsigned lanes, void *argument, Act act);

/* bar.sync and, where `waits` is false, bar.arrive. threads 0: all of the block that have not ended. */
void block_barrier(int id, int threads, bool waits);

void cluster_arrive();
void cluster_wait();

/* ---- shared memory. Addresses are those of the shared window, 32 bits; in a cluster with a block's rank (shared.cpp). */

/* Of one __shared__ declaration: where its variables are, the same for all blocks; 0: not known yet. */
struct Slot {
    unsigned offset;
};
unsigned slot_offset(Slot &slot, size_t bytes, size_t alignment, unsigned &used);

char *dynamic_shared(unsigned alignment);
unsigned shared_address(const void *pointer);
char *shared_memory(unsigned address, unsigned bytes, const char *what);              /* aligned to bytes, up to 16 */
char *shared_range(unsigned address, unsigned bytes, unsigned alignment, const char *what);
char *shared_of_rank(const void *own, unsigned rank);
unsigned shared_address_of_rank(unsigned own, unsigned rank);

/* What a thread has written there by instructions that are told of, the copy engine and wgmma may read behind its fence. */
void note_store(unsigned address, unsigned bytes);
void fence_stores();

/* Check an address outside of shared memory: aligned to `bytes`, which are 1 to 16. */
void check_global(const void *pointer, unsigned bytes, const char *what);

/* ---- asynchronous copies and their barriers (copies.cpp) */

void copy_async(unsigned to, const void *from, unsigned bytes, unsigned valid_bytes); /* zeros behind the valid ones */
void copy_async_commit();
void copy_async_wait(unsigned pending_groups);
void copy_async_wait_all();
void copy_async_arrive(unsigned barrier); /* .noinc */

void barrier_init(unsigned barrier, unsigned arrivals);
void barrier_end(unsigned barrier); /* mbarrier.inval */
void barrier_expect(unsigned barrier, unsigned bytes);
void barrier_arrive(unsigned barrier, unsigned count);
bool barrier_test(unsigned barrier, unsigned parity);
void barrier_wait(unsigned barrier, unsigned parity);

void bulk_load(unsigned to, const void *from, unsigned bytes, unsigned barrier);
void bulk_store(void *to, unsigned from, unsigned bytes);
void bulk_commit();
void bulk_wait(unsigned pending_groups, bool of_reads);
void tensor_load(unsigned to, const void *map, unsigned barrier, std::initializer_list<int> at);
/* To each block of the cluster whose bit is set. */
void tensor_load_shared(unsigned to, const void *map, unsigned barrier, std::initializer_list<int> at, unsigned blocks);

/* ---- matrices (matrix.cpp, wgmma.cpp) */

enum class Element { bf16, f16 };

struct Product { /* mma.m16n8k16 of one lane */
    float *const *d;
    const unsigned *a, *b;
    float *const *c;
    Element element;
};
void multiply(Product &product);

struct Matrices { /* ldmatrix of one lane */
    unsigned *const *r;
    unsigned count;
    unsigned address;
    bool transposed;
};
void load_matrices(Matrices &matrices);
void store_matrices(Matrices &matrices);

struct WarpgroupProduct { /* wgmma.m64nNk16 of one lane */
    float *const *d;
    unsigned columns;
    const unsigned *a; /* four words, or null: by descriptor */
    unsigned long long a_descriptor, b_descriptor;
    bool accumulate, transposed_a, transposed_b;
    int scale_a, scale_b;
    Element element;
};
void warpgroup_multiply(WarpgroupProduct &product);
void warpgroup_fence();
void warpgroup_commit();
void warpgroup_wait(unsigned pending_groups);

/* setmaxnreg. That a block asks for no more than it was given, where it would wait for ever. */
void set_registers(int count);

float element_value(Element element, unsigned short bits);
unsigned short element_bits(Element element, float value); /* to nearest, even */

} // namespace emulate
