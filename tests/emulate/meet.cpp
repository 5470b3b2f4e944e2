/*
 * meet.cpp: threads that wait for each other: lanes of a warp at an instruction of the warp, threads of a block at its numbered
 * barriers, blocks of a cluster at the cluster's.
 */
#include "machine.hpp"

#include <algorithm>
#include <cstring>

namespace emulate {

/* ---- warps */

/* Masks may overlap: who is in both comes to one meeting after the other. */
static Meeting &find_meeting(Warp &warp, unsigned lanes)
{
    if (!warp.meetings.empty() && warp.meetings[0].lanes == lanes) return warp.meetings[0];
    Meeting *unused = nullptr;
    for (Meeting &meeting : warp.meetings) {
        if (meeting.lanes == lanes) return meeting;
        if (!meeting.lanes) unused = &meeting;
    }
    if (unused) return *unused;
    warp.meetings.emplace_back();
    return warp.meetings.back();
}

void meet(const char *what, unsigned lanes, void *argument, Act act)
{
    Thread *me = current;
    Warp &warp = *me->warp;
    const unsigned bit = 1u << me->place.lane;
    if (!(lanes & bit)) fail("%s: the lane is not one of its own mask, %08x", what, lanes);
    if (lanes & warp.ended) fail("%s: the lanes %08x have ended, and are waited for", what, lanes & warp.ended);
    Meeting *const meeting = &find_meeting(warp, lanes);
    if (meeting->lanes && meeting->what != what && strcmp(meeting->what, what) != 0)
        fail("diverged: it is at %s, other lanes at %s", what, meeting->what);
    if (!meeting->lanes && lanes != kAllLanes) *meeting = Meeting(); /* nobody may seem to take part from before */
    meeting->lanes = lanes;
    meeting->what = what;
    meeting->arguments[me->place.lane] = argument;
    meeting->arrived |= bit;
    if (meeting->arrived != lanes) {
        wait_here(what);
        return;
    }
    if (act) act(meeting->arguments, lanes);
    meeting->lanes = meeting->arrived = 0;
    wake_lanes(warp, lanes & ~bit);
    interrupt();
}

/* ---- blocks */

static void release(std::vector<Thread *> &waiting)
{
    for (Thread *thread : waiting) wake(*thread);
    waiting.clear();
}

static void complete_barrier(const Block &block, BlockBarrier &barrier)
{
    const int threads = barrier.threads > 0 ? barrier.threads : static_cast<int>(block.alive);
    if (barrier.arrived < threads) return;
    barrier.arrived = 0;
    barrier.threads = 0;
    release(barrier.waiting);
}

struct BarrierCall {
    int id, threads;
    bool waits;
};

static void compare_calls(void *const (&arguments)[32], unsigned lanes)
{
    const BarrierCall *first = nullptr;
    for (; lanes; lanes &= lanes - 1) {
        const auto *call = static_cast<const BarrierCall *>(arguments[__builtin_ctz(lanes)]);
        if (first && (call->id != first->id || call->threads != first->threads || call->waits != first->waits))
            fail("diverged: lanes of a warp are at different barriers, %d and %d", first->id, call->id);
        first = call;
    }
}

void block_barrier(int id, int threads, bool waits)
{
    const char *what = waits ? id == 0 && threads == 0 ? "__syncthreads" : "bar.sync" : "bar.arrive";
    Thread *me = current;
    if (id < 0 || id > 15) fail("%s: there is no barrier %d", what, id);
    if (threads % 32 != 0) fail("%s: %d threads are no whole warps", what, threads);
    BarrierCall call = {id, threads, waits};
    meet(what, ~me->warp->ended, &call, compare_calls);
    BlockBarrier &barrier = me->block->barriers[id];
    if (barrier.arrived > 0 && barrier.threads != threads)
        fail("%s %d: for %d threads, while others wait for %d", what, id, threads, barrier.threads);
    barrier.threads = threads;
    barrier.arrived++;
    if (waits) barrier.waiting.push_back(me);
    const bool completes = barrier.arrived >= (threads > 0 ? threads : static_cast<int>(me->block->alive));
    if (completes && waits) barrier.waiting.pop_back();
    complete_barrier(*me->block, barrier);
    if (waits && !completes) wait_here(what);
}

/* ---- clusters */

static void complete_cluster(Cluster &cluster)
{
    if (cluster.arrived < cluster.alive || cluster.arrived == 0) return;
    cluster.arrived = 0;
    cluster.phase++;
    release(cluster.waiting);
}

void cluster_arrive()
{
    if (current->arrived_in_cluster) fail("barrier.cluster.arrive: it has arrived before, and not waited");
    current->arrived_in_cluster = true;
    current->cluster_phase = current->cluster->phase;
    current->cluster->arrived++;
    complete_cluster(*current->cluster);
}

void cluster_wait()
{
    Thread *me = current;
    if (!me->arrived_in_cluster) fail("barrier.cluster.wait: it has not arrived");
    me->arrived_in_cluster = false;
    if (me->cluster->phase != me->cluster_phase) return;
    me->cluster->waiting.push_back(me);
    wait_here("barrier.cluster.wait");
}

void leave_meetings(Thread &thread)
{
    const unsigned bit = 1u << thread.place.lane;
    for (const Meeting &meeting : thread.warp->meetings)
        if (meeting.lanes & bit) fail("it ends, while other lanes wait for it at %s", meeting.what);
    if (thread.arrived_in_cluster) thread.cluster->arrived--; /* it is not waited for either */
    for (BlockBarrier &barrier : thread.block->barriers)
        if (barrier.arrived > 0 && barrier.threads == 0) complete_barrier(*thread.block, barrier);
    complete_cluster(*thread.cluster);
}

} // namespace emulate
