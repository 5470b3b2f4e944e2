/*
 * dynamic.h: filling a table of entry points from a library opened with dlopen. For driver.c, nvrtc.c and the tool's nvml.c,
 * below them.
 */
#ifndef TAMISI_DYNAMIC_H
#define TAMISI_DYNAMIC_H

#include <stddef.h>

/* An entry point by its exported name, and where in the table its pointer goes. */
struct tamisi_symbol {
    const char *name;
    size_t offset;
};

/* Fill `table`. Returns NULL, or the name of the first symbol that the library lacks. */
const char *tamisi_dynamic_fill(void *table, void *library, const struct tamisi_symbol *symbols, size_t count);

/* The file that holds the symbol `name` of `library`, links resolved; `fallback` if that cannot be told. */
void tamisi_dynamic_path(char *out, size_t size, void *library, const char *name, const char *fallback);

#endif
