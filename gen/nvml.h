/*
 * nvml.h: the clock of a GPU's multiprocessors from NVIDIA's management library, opened with dlopen. It is for a figure
 * beside others: where the library is missing, or does not know the GPU, there is no clock and no error. Layer: above
 * driver and gpu.h, beside stopwatch.
 */
#ifndef NVML_H
#define NVML_H

#include "tamis.h"

#include <stdbool.h>

struct nvml {
    void *library; /* NULL: there is no clock */
    void *device;
    struct nvml_entries {
        int (*init)(void);
        int (*shutdown)(void);
        int (*handle_by_pci)(const char *, void **);
        int (*clock_info)(void *, int, unsigned *);
        int (*clock_reasons)(void *, unsigned long long *); /* NULL: the library does not tell */
    } call;
};

void nvml_open(struct nvml *out, tamis_context *context); /* nvml_close() is due in any case */
void nvml_close(struct nvml *nvml);
int nvml_sm_mhz(const struct nvml *nvml); /* now; 0: unknown */
/*
 * Is the clock held down now by heat, or by a supply that gives less than the card may take? Not by the card's own power
 * limit: at that a kernel that keeps the tensor cores busy always runs.
 */
bool nvml_throttled(const struct nvml *nvml);

#endif
