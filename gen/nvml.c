/*
 * nvml.c: see nvml.h. The GPU is found by its PCI address: NVML counts devices otherwise than CUDA does.
 */
#define _GNU_SOURCE
#include "nvml.h"

#include "dynamic.h"
#include "gpu.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { CLOCK_SM = 1 }; /* nvmlClockType_t */
enum { /* nvmlClocksEventReasons */
    HARDWARE_SLOWDOWN = 0x8,
    SOFTWARE_THERMAL = 0x20,
    HARDWARE_THERMAL = 0x40,
    POWER_BRAKE = 0x80
};

#define SYMBOL(name, member) {name, offsetof(struct nvml_entries, member)}
static const struct tamisi_symbol symbols[] = {
    SYMBOL("nvmlInit_v2", init),
    SYMBOL("nvmlShutdown", shutdown),
    SYMBOL("nvmlDeviceGetHandleByPciBusId_v2", handle_by_pci),
    SYMBOL("nvmlDeviceGetClockInfo", clock_info),
};

/* Renamed with CUDA 12.2; drivers since then have both names. */
static void find_reasons(struct nvml *nvml, void *library)
{
    void *symbol = dlsym(library, "nvmlDeviceGetCurrentClocksThrottleReasons");
    if (!symbol) symbol = dlsym(library, "nvmlDeviceGetCurrentClocksEventReasons");
    memcpy(&nvml->call.clock_reasons, &symbol, sizeof symbol);
}

static bool find_device(struct nvml *nvml, const struct tamisi_gpu *gpu)
{
    char address[32] = "";
    return gpu->cuda->device_get_pci_bus_id(address, sizeof address, gpu->device) == 0 &&
           nvml->call.handle_by_pci(address, &nvml->device) == 0;
}

void nvml_open(struct nvml *out, tamis_context *context)
{
    *out = (struct nvml){.library = NULL};
    if (context->device == TAMIS_DEVICE_CPU) return;
    const char *override = getenv("TAMIS_LIBNVML");
    void *library = dlopen(override && *override ? override : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    if (!tamisi_dynamic_fill(&out->call, library, symbols, sizeof symbols / sizeof *symbols) && out->call.init() == 0) {
        if (find_device(out, context->state)) {
            out->library = library;
            find_reasons(out, library);
            return;
        }
        out->call.shutdown();
    }
    dlclose(library);
}

void nvml_close(struct nvml *nvml)
{
    if (!nvml->library) return;
    nvml->call.shutdown();
    dlclose(nvml->library);
    nvml->library = NULL;
}

int nvml_sm_mhz(const struct nvml *nvml)
{
    unsigned mhz = 0;
    if (!nvml->library || nvml->call.clock_info(nvml->device, CLOCK_SM, &mhz) != 0) return 0;
    return (int)mhz;
}

bool nvml_throttled(const struct nvml *nvml)
{
    unsigned long long reasons = 0;
    if (!nvml->library || !nvml->call.clock_reasons || nvml->call.clock_reasons(nvml->device, &reasons) != 0) return false;
    return (reasons & (HARDWARE_SLOWDOWN | SOFTWARE_THERMAL | HARDWARE_THERMAL | POWER_BRAKE)) != 0;
}
