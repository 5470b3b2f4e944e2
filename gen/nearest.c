/*
 * nearest.c: the name among a few that is nearest to a wrong one. Depends on nothing.
 */
#include "nearest.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAX_NAME 48 /* longer ones have no nearest name */

/* How many letters must be changed, added or left out; two neighbours that changed places count once. */
static int edit_distance(const char *a, const char *b)
{
    int rows[3][MAX_NAME]; /* of this letter of a, and of the two before it, in turn */
    const int columns = (int)strlen(b), lines = (int)strlen(a);
    for (int j = 0; j <= columns; j++) rows[0][j] = j;
    for (int i = 1; i <= lines; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= columns; j++) {
            const int replace = above[j - 1] + (a[i - 1] != b[j - 1]);
            const int shift = 1 + (above[j] < row[j - 1] ? above[j] : row[j - 1]);
            row[j] = replace < shift ? replace : shift;
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && before[j - 2] + 1 < row[j]) row[j] = before[j - 2] + 1;
        }
    }
    return rows[lines % 3][columns];
}

const char *nearest_name(const char *wrong, const char *const *names, int count)
{
    const size_t length = strlen(wrong);
    int best = length < MAX_NAME && length / 3 > 1 ? (int)length / 3 : 1;
    const char *nearest = NULL;
    for (int i = 0; i < count && length < MAX_NAME; i++) {
        const int distance = strlen(names[i]) < MAX_NAME ? edit_distance(wrong, names[i]) : MAX_NAME;
        if (distance < best + (nearest == NULL)) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

void nearest_describe(char *out, size_t out_bytes, const char *wrong, const char *const *names, int count)
{
    const char *nearest = nearest_name(wrong, names, count);
    if (nearest) {
        snprintf(out, out_bytes, "did you mean \"%s\"?", nearest);
        return;
    }
    size_t used = (size_t)snprintf(out, out_bytes, "there are:");
    for (int i = 0; i < count && used < out_bytes; i++)
        used += (size_t)snprintf(out + used, out_bytes - used, "%s %s", i ? "," : "", names[i]);
}
