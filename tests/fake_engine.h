/*
 * fake_engine.h: what may stand behind the fake libcuda's rules and run kernels for it. Without one a kernel is a name and a
 * launch is counted; tests/emulate has one.
 */
#ifndef FAKE_ENGINE_H
#define FAKE_ENGINE_H

#include "fake_cuda.h"

#include <stddef.h>

/* One call at a time, under the fake's lock. Codes are those of CUresult. */
struct fake_engine {
    int (*load)(void **code, const char *image); /* a library's data; freed by the caller once it is loaded */
    void (*unload)(void *code);
    void *(*find)(void *code, const char *symbol); /* NULL: no such kernel */
    int (*launch)(void *kernel, const struct fake_cuda_launch *launch, int sms); /* done when it returns */
    const char *(*describe_failure)(void); /* of the last launch or library */
    void *(*allocate)(size_t bytes); /* device memory, on 256 bytes; NULL: none left */
    void (*release)(void *memory, size_t bytes);
};

/* Before the first call of the driver; kept by reference. */
TAMIS_API void fake_cuda_use(const struct fake_engine *engine);

#endif
