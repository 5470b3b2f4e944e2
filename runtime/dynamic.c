/*
 * dynamic.c: entry points from dlopened libraries.
 */
#define _GNU_SOURCE /* dladdr */

#include "dynamic.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tamisi_dynamic_fill(void *table, void *library, const struct tamisi_symbol *symbols, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *address = dlsym(library, symbols[i].name);
        if (!address) return symbols[i].name;
        /* C has no conversion from an object pointer to a function's; POSIX says that both have one representation. */
        memcpy((char *)table + symbols[i].offset, &address, sizeof address);
    }
    return NULL;
}

void tamisi_dynamic_path(char *out, size_t size, void *library, const char *name, const char *fallback)
{
    char resolved[PATH_MAX];
    Dl_info info;
    const void *address = dlsym(library, name);
    const char *path = fallback;
    if (address && dladdr(address, &info) && info.dli_fname) path = info.dli_fname;
    if (strchr(path, '/') && realpath(path, resolved)) path = resolved;
    snprintf(out, size, "%s", path);
}
