/*
 * launch_none.c: a host of the sources that tamis export --c writes, where the libcuda.so.1 that is found is too old, or none is.
 */
#include "tamis_kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    static const struct tamis_kernels_driver nothing;
    struct tamis_kernels_driver driver;
    const char *wrong = NULL;

    memset(&driver, 7, sizeof driver);
    if (tamis_kernels_open(&driver) != TAMIS_KERNELS_NO_DRIVER) wrong = "a driver is opened";
    else if (memcmp(&driver, &nothing, sizeof driver) != 0) wrong = "half of a driver is left";
    else if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD)) wrong = "the library stays open";
    if (wrong) fprintf(stderr, "launch_none: %s\n", wrong);
    return wrong != NULL;
}
