/*
 * fake_nvml.c: the management library that is none, in one file with the fake libcuda, whose GPUs it knows by their PCI
 * addresses. TAMIS_LIBNVML names it. Environment: FAKE_NVML_MHZ, the clock (1665); "none": that cannot be read.
 * FAKE_NVML_REASONS, the bits of what holds it down (4, the power limit).
 */
#include "tamis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TAMIS_API int nvmlInit_v2(void);
TAMIS_API int nvmlShutdown(void);
TAMIS_API int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device);
TAMIS_API int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz);
TAMIS_API int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);

enum { UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_FOUND = 6 }; /* nvmlReturn_t */

static int users;
static char devices[16];

int nvmlInit_v2(void)
{
    users++;
    return 0;
}

int nvmlShutdown(void) { return users > 0 ? (users--, 0) : UNINITIALIZED; }

int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device)
{
    unsigned bus;
    if (users == 0) return UNINITIALIZED;
    if (sscanf(address, "0000:%2x:00.0", &bus) != 1 || bus < 16 || bus >= 16 + sizeof devices) return NOT_FOUND;
    *device = &devices[bus - 16];
    return 0;
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz)
{
    const char *clock = getenv("FAKE_NVML_MHZ");
    const char *place = device;
    if (users == 0) return UNINITIALIZED;
    if (type != 1 || place < devices || place >= devices + sizeof devices) return INVALID_ARGUMENT;
    if (clock && strcmp(clock, "none") == 0) return NOT_FOUND;
    *mhz = clock ? (unsigned)strtoul(clock, NULL, 10) : 1665;
    return 0;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons)
{
    const char *bits = getenv("FAKE_NVML_REASONS");
    if (users == 0) return UNINITIALIZED;
    (void)device;
    *reasons = bits ? strtoull(bits, NULL, 0) : 4;
    return 0;
}
