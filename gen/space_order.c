/*
 * space_order.c: which variant of a combination comes first. Beside space.c, which makes the order from the spec; here the
 * user overrules it.
 */
#include "space.h"

#include <stdlib.h>
#include <string.h>

static bool same_combination(const struct tamisi_variant *a, const struct tamisi_variant *b)
{
    return strcmp(a->family, b->family) == 0 && strcmp(a->arch, b->arch) == 0 && a->dtype == b->dtype &&
           a->head_dim == b->head_dim;
}

int space_promote(struct space *space, const char *name)
{
    int promoted = 0;
    for (size_t i = 0; i < space->variant_count; i++) {
        if (strcmp(space->variants[i].variant.name, name) != 0) continue;
        const struct space_variant chosen = space->variants[i];
        size_t first = i; /* of the combination, whose variants stand together, by rank */
        for (; first > 0 && same_combination(&space->variants[first - 1].variant, &chosen.variant); first--) {
            space->variants[first] = space->variants[first - 1];
            space->variants[first].variant.rank++;
        }
        space->variants[first] = chosen;
        space->variants[first].variant.rank = 0;
        promoted++;
    }
    return promoted;
}

void space_keep_defaults(struct space *space)
{
    size_t kept = 0;
    for (size_t i = 0; i < space->variant_count; i++) {
        if (space->variants[i].variant.rank == 0) {
            space->variants[kept++] = space->variants[i];
            continue;
        }
        free(space->variants[i].text);
        free(space->variants[i].lined);
    }
    space->variant_count = kept;
}
