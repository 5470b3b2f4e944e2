/*
 * bench_ablate_rank.c: see bench_ablate.h.
 */
#include "bench_ablate.h"

#include <string.h>

const char *const ablate_names[ABLATE_WAYS] = {"head", "kv_group", "layer", "random", "recent", "evict"};

#define RANDOM_OF_LAYER (1ull << 32) /* and those above: apart from the things of structured.c */

tamis_scope ablate_scope(enum ablate_way way)
{
    static const tamis_scope scopes[ABLATE_WAYS] = {[ABLATE_HEAD] = TAMIS_SCOPE_HEAD,
                                                    [ABLATE_KV_GROUP] = TAMIS_SCOPE_KV_GROUP,
                                                    [ABLATE_LAYER] = TAMIS_SCOPE_LAYER,
                                                    [ABLATE_RANDOM] = TAMIS_SCOPE_HEAD,
                                                    [ABLATE_RECENT] = TAMIS_SCOPE_LAYER,
                                                    [ABLATE_EVICT] = TAMIS_SCOPE_LAYER};
    return scopes[way];
}

void ablate_rank(float *out, enum ablate_way way, const tamis_problem *problem, const float *first, int layer,
                 unsigned long long seed)
{
    const long long window = problem->selection.window;
    const long long candidates = problem->seq_len > window ? problem->seq_len - window : 0;
    const int lists = way == ABLATE_RANDOM ? problem->q_heads : 1;
    if (way == ABLATE_EVICT && candidates > 0) memcpy(out, first, (size_t)candidates * sizeof *out);
    if (way == ABLATE_EVICT) return;
    for (int head = 0; head < lists; head++)
        for (long long j = 0; j < candidates; j++) {
            const unsigned long long which = (unsigned long long)head << 32 ^ (unsigned long long)j;
            const double random = bench_chance(seed, RANDOM_OF_LAYER + (unsigned long long)layer, which);
            out[head * candidates + j] = way == ABLATE_RECENT ? (float)j : (float)random; /* exact: below 2^24 */
        }
}
