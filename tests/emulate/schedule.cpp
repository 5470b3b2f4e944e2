/*
 * schedule.cpp: a launch from its first block to its last: who runs, and what happens when nobody can.
 *
 * One cluster runs at a time, unless its threads poll for something that no one of them brings: then the next one is let in
 * beside it, as many as the GPU has room for. A warp runs until all of its lanes wait, then some other. Copies under way are
 * done when nothing else can be. In half of the launches a warp is interrupted now and then where its lanes have met, and in
 * half of them copies may be done whenever a warp waits.
 */
#include "machine.hpp"

#include <cstdio>
#include <cstdlib>

namespace emulate {

Launch *launch;
Thread *current;
const Place *here;

static Fiber program; /* who called run */
static const unsigned most_polls = 200000; /* in a row, in which nothing else happens */

unsigned random_below(unsigned count)
{
    launch->random = launch->random * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>((launch->random >> 33) % count);
}

/* ---- failure */

static void tell_failure(const char *format, va_list arguments)
{
    char text[1024];
    const int used = current ? snprintf(text, sizeof text, "block %u %u %u, thread %u: ", here->block.x, here->block.y,
                                        here->block.z, here->thread.x)
                             : 0;
    vsnprintf(text + used, sizeof text - static_cast<size_t>(used), format, arguments);
    launch->failed = true;
    launch->message = launch->symbol + ": " + text;
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell_failure(format, arguments);
    va_end(arguments);
    Fiber abandoned;
    fiber_switch(current ? current->fiber : abandoned, program);
    abort(); /* nobody goes back to it */
}

/* ---- who runs */

static Thread *next_lane(Warp &warp) { return warp.threads[static_cast<size_t>(__builtin_ctz(warp.ready))]; }

/* In half of the launches copies end soon, in the others only when nobody can run. */
static void deliver_early()
{
    Thread *const me = current;
    if (!launch->copies_end_soon || !me || random_below(2) == 0) return;
    while (deliver_one(*me->cluster)) continue;
    current = me;
}

static Thread *some_thread()
{
    if (launch->ready == 0) return nullptr;
    const size_t clusters = launch->clusters.size(),
                 first_cluster = clusters > 1 ? random_below(static_cast<unsigned>(clusters)) : 0;
    for (size_t c = 0; c < clusters; c++) {
        Cluster &cluster = *launch->clusters[(first_cluster + c) % clusters];
        const size_t blocks = cluster.blocks.size(), first_block = random_below(static_cast<unsigned>(blocks));
        for (size_t b = 0; b < blocks; b++) {
            Block &block = cluster.blocks[(first_block + b) % blocks];
            const size_t warps = block.warps.size(), first = random_below(static_cast<unsigned>(warps));
            for (size_t w = 0; w < warps; w++)
                if (block.warps[(first + w) % warps].ready) return next_lane(block.warps[(first + w) % warps]);
        }
    }
    return nullptr;
}

/* The rest of the warp first; then some other warp. */
static Thread *next_thread()
{
    if (current && current->warp->ready) return next_lane(*current->warp);
    deliver_early();
    return some_thread();
}

static void run_thread(Fiber &from, Thread *next)
{
    current = next;
    here = next ? &next->place : nullptr;
    fiber_switch(from, next ? next->fiber : program);
}

void wake_lanes(Warp &warp, unsigned lanes)
{
    warp.ready |= lanes;
    launch->ready += static_cast<unsigned>(__builtin_popcount(lanes));
}

void wake(Thread &thread)
{
    const unsigned bit = 1u << thread.place.lane;
    if (thread.warp->ready & bit) return;
    if (thread.polls) launch->polling--;
    thread.polls = false;
    thread.waits_for = nullptr;
    thread.warp->ready |= bit;
    launch->ready++;
}

static void rest(Thread &thread)
{
    thread.warp->ready &= ~(1u << thread.place.lane);
    launch->ready--;
}

void wait_here(const char *what)
{
    Thread *me = current;
    me->waits_for = what;
    rest(*me);
    run_thread(me->fiber, next_thread());
}

void interrupt()
{
    Thread *const me = current;
    if (!launch->interrupts || random_below(8) != 0) return;
    Thread *const next = some_thread();
    if (next != me) run_thread(me->fiber, next);
}

void give_way()
{
    current->polls = true;
    launch->polling++;
    wait_here("a poll");
}

/* Where every fiber begins. */
static void enter()
{
    launch->entry(launch->params);
    Thread *me = current;
    end_products(*me);
    me->ended = true;
    if (--me->block->alive == 0) end_memory(*me->block);
    me->cluster->alive--;
    me->warp->ended |= 1u << me->place.lane;
    leave_meetings(*me);
    rest(*me);
    run_thread(me->fiber, next_thread());
}

/* ---- clusters */

static Index index_of(unsigned long long number, const Index &size)
{
    return {static_cast<unsigned>(number % size.x), static_cast<unsigned>(number / size.x % size.y),
            static_cast<unsigned>(number / size.x / size.y)};
}

static void open_block(Cluster &cluster, Block &block, const Place &place)
{
    const unsigned threads = launch->block.x * launch->block.y * launch->block.z;
    block.alive = threads;
    block.threads.resize(threads);
    block.warps.resize((threads + 31) / 32);
    open_memory(block);
    for (unsigned i = 0; i < threads; i++) {
        Thread &thread = block.threads[i];
        thread.place = place;
        thread.place.thread = index_of(i, launch->block);
        thread.place.lane = static_cast<int>(i % 32);
        thread.place.warp = static_cast<int>(i / 32);
        thread.place.window = block.memory;
        thread.cluster = &cluster;
        thread.block = &block;
        thread.warp = &block.warps[i / 32];
        thread.warp->threads.push_back(&thread);
        fiber_open(thread.fiber, enter);
        wake(thread);
    }
    for (Warp &warp : block.warps)
        if (warp.threads.size() < 32) warp.ended = kAllLanes << warp.threads.size();
}

static void open_cluster()
{
    const Index size = launch->cluster;
    const Index clusters = {launch->grid.x / size.x, launch->grid.y / size.y, launch->grid.z / size.z};
    launch->clusters.push_back(std::make_unique<Cluster>());
    Cluster &cluster = *launch->clusters.back();
    Place place = {};
    place.cluster = index_of(launch->next_cluster++, clusters);
    place.block_size = launch->block;
    place.grid_size = launch->grid;
    place.cluster_size = size;
    cluster.blocks.resize(static_cast<size_t>(size.x) * size.y * size.z);
    cluster.alive = static_cast<unsigned>(cluster.blocks.size()) * launch->block.x * launch->block.y * launch->block.z;
    for (place.rank = 0; place.rank < cluster.blocks.size(); place.rank++) {
        const Index in_cluster = index_of(place.rank, size);
        place.block = {place.cluster.x * size.x + in_cluster.x, place.cluster.y * size.y + in_cluster.y,
                       place.cluster.z * size.z + in_cluster.z};
        open_block(cluster, cluster.blocks[place.rank], place);
    }
}

static void close_cluster(Cluster &cluster)
{
    for (Block &block : cluster.blocks) {
        for (Thread &thread : block.threads) {
            if (thread.polls) launch->polling--;
            fiber_close(thread.fiber);
        }
        close_memory(block);
    }
}

/* Those that have ended make room. */
static void close_ended()
{
    for (size_t i = 0; i < launch->clusters.size();) {
        Cluster &cluster = *launch->clusters[i];
        if (cluster.alive > 0) {
            i++;
            continue;
        }
        close_cluster(cluster);
        launch->clusters.erase(launch->clusters.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

/* ---- when nobody can run */

static bool has_room()
{
    const Index size = launch->cluster;
    return launch->next_cluster < launch->cluster_count &&
           (launch->clusters.size() + 1) * size.x * size.y * size.z <= launch->resident_blocks;
}

static void wake_polling()
{
    for (auto &cluster : launch->clusters)
        for (Block &block : cluster->blocks)
            for (Thread &thread : block.threads)
                if (thread.polls) wake(thread);
}

/* "warp 0: 32 lanes wait for bar.sync; warp 1: ..." of one block in which somebody waits. */
static std::string describe_waiting()
{
    std::string text;
    for (auto &cluster : launch->clusters)
        for (Block &block : cluster->blocks)
            for (Warp &warp : block.warps) {
                std::map<std::string, int> counts;
                for (const Thread *thread : warp.threads)
                    if (!thread->ended) counts[thread->waits_for ? thread->waits_for : "nothing"]++;
                for (const auto &count : counts)
                    if (text.size() < 600)
                        text += "\n    block " + std::to_string(block.threads[0].place.block.x) + ", warp " +
                                std::to_string(warp.threads[0]->place.warp) + ": " + std::to_string(count.second) +
                                " lanes wait for " + count.first;
            }
    return text;
}

static void fail_launch(const char *what)
{
    launch->failed = true;
    launch->message = launch->symbol + ": " + what + describe_waiting();
}

/* Something that lets threads go on; else the launch has failed. */
static void settle(unsigned &polls)
{
    for (auto &cluster : launch->clusters)
        if (deliver_one(*cluster)) {
            polls = 0;
            return;
        }
    if (launch->polling > 0 && ++polls <= most_polls) {
        if (polls > 2 && has_room()) open_cluster();
        wake_polling();
    } else if (!launch->failed) {
        fail_launch(launch->polling > 0 ? "threads poll for what does not come" : "threads wait for each other");
    }
}

static void run_all()
{
    unsigned polls = 0;
    while (!launch->failed) {
        close_ended();
        if (launch->failed) return;
        if (launch->clusters.empty() && launch->next_cluster == launch->cluster_count) return;
        if (launch->clusters.empty()) open_cluster();
        current = nullptr;
        Thread *next = next_thread();
        if (next) run_thread(program, next);
        if (launch->ready == 0 && !launch->failed) {
            close_ended();
            if (!launch->clusters.empty() && !launch->failed) settle(polls);
        }
    }
}

bool run(Launch &what)
{
    catch_faults();
    launch = &what;
    launch->copies_end_soon = random_below(2) == 0;
    launch->interrupts = random_below(2) == 0;
    launch->cluster_count = static_cast<unsigned long long>(what.grid.x / what.cluster.x) * (what.grid.y / what.cluster.y) *
                            (what.grid.z / what.cluster.z);
    run_all();
    for (auto &cluster : launch->clusters) close_cluster(*cluster);
    launch->clusters.clear();
    launch = nullptr;
    current = nullptr;
    release_faults();
    return !what.failed;
}

} // namespace emulate
