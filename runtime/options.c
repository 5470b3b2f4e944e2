/*
 * options.c: see options.h.
 */
#include "options.h"

#define STRUCT_MAX 4096 /* longer than this is a size that was never set */

tamis_status tamisi_options_check(const void *options, size_t least_bytes, size_t known_bytes, const char *name,
                                  const char *init)
{
    const unsigned char *bytes = options;
    const size_t size = *(const size_t *)options;
    if (size < least_bytes)
        return tamisi_fail(TAMIS_EINVAL, "%s: struct_size is %zu, at least %zu is needed: use %s", name, size, least_bytes,
                           init);
    if (size > STRUCT_MAX)
        return tamisi_fail(TAMIS_EINVAL, "%s: struct_size is %zu, which no version has: use %s", name, size, init);
    for (size_t i = known_bytes; i < size; i++)
        if (bytes[i] != 0)
            return tamisi_fail(TAMIS_EINVAL, "%s: struct_size is %zu, and a member is set that this libtamis does not know",
                               name, size);
    return TAMIS_OK;
}
