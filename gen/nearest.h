/* nearest.h: what might have been meant by a wrong name: for messages of the spec reader and of Lua. Lowest of gen/. */
#ifndef NEAREST_H
#define NEAREST_H

#include <stddef.h>

/* The name that is near enough to be what was meant, or NULL. */
const char *nearest_name(const char *wrong, const char *const *names, int count);

/* `did you mean "block_m"?` where one of the names is near, else all of them: `there are: block_m, block_n`. */
void nearest_describe(char *out, size_t out_bytes, const char *wrong, const char *const *names, int count);

#endif
