/*
 * engine.cpp: the emulator as the engine behind the fake driver, which has checked what comes here by the driver's rules.
 */
#include "library.hpp"
#include "machine.hpp"

extern "C" {
#include "fake_engine.h"
}

#include <dlfcn.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace {

using namespace emulate;

const int invalid_image = 200, out_of_memory = 2, launch_failed = 719; /* CUresult */

std::string failure; /* text of the last one */

/* "cubin of NAME for ARCH", a zero byte, and the source: what the fake's NVRTC makes. */
int load(void **out, const char *image)
{
    const char *arch = strstr(image, " for ");
    if (strncmp(image, "cubin of ", 9) != 0 || !arch) {
        failure = "what is loaded was not made by the fake's NVRTC";
        return invalid_image;
    }
    *out = open_library(image + strlen(image) + 1, arch + 5, failure);
    if (!*out) fprintf(stderr, "emulate: %.*s: %s\n", static_cast<int>(arch - image - 9), image + 9, failure.c_str());
    return *out ? 0 : invalid_image;
}

void *find(void *library, const char *symbol) { return dlsym(library, (std::string("emulated_") + symbol).c_str()); }

Index index_of(const unsigned (&from)[3]) { return {from[0], from[1], from[2]}; }

unsigned long long seed()
{
    const char *text = getenv("EMULATE_SEED");
    return text ? strtoull(text, nullptr, 10) : 1;
}

int launch_kernel(void *kernel, const fake_cuda_launch *launch, int sms)
{
    static unsigned long long number;
    Launch what;
    what.symbol = launch->symbol;
    what.entry = reinterpret_cast<void (*)(void **)>(kernel);
    what.params = launch->params;
    what.grid = index_of(launch->grid);
    what.block = index_of(launch->block);
    what.cluster = index_of(launch->cluster);
    what.shared_bytes = launch->shared_bytes;
    what.resident_blocks = static_cast<unsigned>(sms);
    what.random = seed() * 1000003 + number++;
    if (run(what)) return 0;
    failure = what.message;
    fprintf(stderr, "emulate: %s\n", failure.c_str());
    return launch_failed;
}

const char *describe_failure() { return failure.c_str(); }

/* ---- memory whose neighbours are nobody's: it ends where a page ends, but for what its alignment wants */

const size_t page = 4096, alignment = 256;

size_t mapped_bytes(size_t bytes) { return 2 * page + (bytes + page - 1) / page * page; }

void *allocate(size_t bytes)
{
    void *mapped =
        mmap(nullptr, mapped_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char *begin = static_cast<char *>(mapped), *end = begin + mapped_bytes(bytes) - page;
    mprotect(begin, page, PROT_NONE);
    mprotect(end, page, PROT_NONE);
    return end - (bytes + alignment - 1) / alignment * alignment;
}

void release(void *memory, size_t bytes)
{
    char *end = static_cast<char *>(memory) + (bytes + alignment - 1) / alignment * alignment;
    munmap(end + page - mapped_bytes(bytes), mapped_bytes(bytes));
}

const fake_engine engine = {load, close_library, find, launch_kernel, describe_failure, allocate, release};

const struct Register {
    Register() { fake_cuda_use(&engine); }
} registered;

} // namespace
