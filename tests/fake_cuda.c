/*
 * fake_cuda.c: a libcuda.so for machines without a GPU: every entry point of the driver's table with its rules, and nothing
 * behind them. Memory is host memory, kernels are names, a launch is counted and checked. Misuse that a real driver answers
 * with an error or a crash is counted as such; any call can be made to fail. See fake_cuda.h.
 *
 * Here: settings, objects behind handles, devices and contexts. What runs in a context is in fake_cuda_work.c.
 */
#define _POSIX_C_SOURCE 200809L

#include "fake_cuda_state.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK 16 /* contexts a thread can push */

struct fake_state fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct object *stack[STACK];
static _Thread_local int depth;

/* ------------------------------------------------------------------------------------------------- settings and counts */

static long read_number(const char *name, long fallback)
{
    const char *text = getenv(name);
    return text && *text ? atol(text) : fallback;
}

static void add_failure(const char *function, size_t length, long nth, int code)
{
    for (int i = 0; i < FAKE_FAILURES; i++)
        if (fake.failures[i].nth == 0) {
            snprintf(fake.failures[i].function, sizeof fake.failures[i].function, "%.*s", (int)length, function);
            fake.failures[i].nth = nth;
            fake.failures[i].code = code;
            return;
        }
}

static void read_failures(const char *text)
{
    while (text && *text) {
        const size_t name = strcspn(text, ":");
        char *end = NULL;
        const long nth = text[name] ? strtol(text + name + 1, &end, 10) : 0;
        const long code = end && *end == ':' ? strtol(end + 1, &end, 10) : 0;
        if (nth > 0 && code > 0) add_failure(text, name, nth, (int)code);
        text = strchr(text, ',');
        if (text) text++;
    }
}

static void read_settings(void)
{
    const char *cc = getenv("FAKE_CUDA_CC"), *missing = getenv("FAKE_CUDA_MISSING");
    if (fake.read) return;
    fake.read = true;
    fake.devices = (int)read_number("FAKE_CUDA_DEVICES", 1);
    if (fake.devices > FAKE_DEVICES) fake.devices = FAKE_DEVICES;
    if (!cc || sscanf(cc, "%d.%d", &fake.major, &fake.minor) != 2) fake.major = 9, fake.minor = 0;
    fake.version = (int)read_number("FAKE_CUDA_VERSION", 13000);
    fake.sms = (int)read_number("FAKE_CUDA_SMS", 132);
    fake.memory = (size_t)read_number("FAKE_CUDA_MEMORY", 80L << 30);
    snprintf(fake.missing, sizeof fake.missing, "%s", missing ? missing : "");
    read_failures(getenv("FAKE_CUDA_FAIL"));
}

void fake_misuse(const char *format, ...)
{
    va_list arguments;
    if (fake.counts.misuses++ > 0) return;
    va_start(arguments, format);
    vsnprintf(fake.counts.misuse, sizeof fake.counts.misuse, format, arguments);
    va_end(arguments);
}

void fake_cuda_counts(struct fake_cuda_counts *out)
{
    pthread_mutex_lock(&fake.lock);
    *out = fake.counts;
    pthread_mutex_unlock(&fake.lock);
}

void fake_cuda_fail(const char *function, long nth, int code)
{
    pthread_mutex_lock(&fake.lock);
    read_settings();
    fake.counts.failed[0] = '\0';
    if (!function) memset(fake.failures, 0, sizeof fake.failures);
    else add_failure(function, strlen(function), nth, code);
    pthread_mutex_unlock(&fake.lock);
}

void fake_cuda_assume(const void *address, size_t bytes)
{
    pthread_mutex_lock(&fake.lock);
    fake.assumed = (unsigned long long)(uintptr_t)address;
    fake.assumed_bytes = bytes;
    pthread_mutex_unlock(&fake.lock);
}

void fake_cuda_use(const struct fake_engine *engine)
{
    pthread_mutex_lock(&fake.lock);
    fake.engine = engine;
    pthread_mutex_unlock(&fake.lock);
}

void fake_cuda_watch(void (*watch)(void *payload, const struct fake_cuda_launch *launch), void *payload)
{
    pthread_mutex_lock(&fake.lock);
    fake.watch = watch;
    fake.watch_payload = payload;
    pthread_mutex_unlock(&fake.lock);
}

/* A call that can fail: take the lock; the code of the failure that is due, or 0. */
static bool is_blocking(const char *function)
{
    static const char *const parts[] = {"cuMemAlloc", "cuMemFree", "cuMemcpy", "Synchronize", "cuLibrary"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(function, parts[i])) return true;
    return false;
}

tamisi_cu_result fake_enter(const char *function)
{
    tamisi_cu_result result = 0;
    pthread_mutex_lock(&fake.lock);
    read_settings();
    fake.counts.calls++;
    fake.counts.blocking += is_blocking(function);
    for (int i = 0; i < FAKE_FAILURES; i++)
        if (fake.failures[i].nth > 0 &&
            (strcmp(fake.failures[i].function, "*") == 0 || strcmp(fake.failures[i].function, function) == 0) &&
            --fake.failures[i].nth == 0) {
            result = fake.failures[i].code;
            snprintf(fake.counts.failed, sizeof fake.counts.failed, "%s", function);
        }
    if (!fake.initialised && strcmp(function, "cuInit") != 0) {
        fake_misuse("%s before cuInit", function);
        result = NOT_INITIALIZED;
    }
    return result;
}

tamisi_cu_result fake_leave(tamisi_cu_result result)
{
    pthread_mutex_unlock(&fake.lock);
    return result;
}

/* ------------------------------------------------------------------------------------------------------------- objects */

struct object *fake_add(enum kind kind, struct object *parent)
{
    struct object *object = calloc(1, sizeof *object);
    if (!object) abort();
    object->kind = kind;
    object->live = true;
    object->parent = parent;
    object->next = fake.objects;
    fake.objects = object;
    return object;
}

/* The live object behind a handle, or NULL with a misuse noted. */
struct object *fake_find(const char *function, const void *handle, enum kind kind)
{
    for (struct object *object = fake.objects; object; object = object->next)
        if (object == handle) {
            if (object->kind == kind && object->live && (!object->parent || object->parent->live)) return object;
            fake_misuse("%s: a handle %s", function, object->kind == kind ? "after its end" : "of another kind");
            return NULL;
        }
    fake_misuse("%s: an unknown handle", function);
    return NULL;
}

struct object *fake_context(const char *function)
{
    struct object *context = depth > 0 ? stack[depth - 1] : NULL;
    if (context && context->live) return context;
    fake_misuse("%s without a current context", function);
    return NULL;
}

/* Stream NULL is right in any context; another one only in its own. */
bool fake_stream_fits(const char *function, const void *stream, const struct object *context)
{
    if (!stream) return true;
    const struct object *object = fake_find(function, stream, STREAM);
    if (object && object->parent != context) fake_misuse("%s: the stream is of another context", function);
    return object && object->parent == context;
}

/* The bytes of device memory at `address`, or NULL with a misuse noted. */
char *fake_memory(const char *function, tamisi_cu_deviceptr address, size_t bytes)
{
    for (struct object *object = fake.objects; object; object = object->next) {
        const unsigned long long base = (unsigned long long)(uintptr_t)object->data;
        if (object->kind == MEMORY && object->live && address >= base && address - base <= object->bytes &&
            bytes <= object->bytes - (address - base))
            return object->data + (address - base);
    }
    fake_misuse("%s: %zu bytes that are in no allocation, or freed", function, bytes);
    return NULL;
}

void *fake_take(size_t bytes)
{
    void *data = NULL;
    if (fake.engine) return fake.engine->allocate(bytes);
    return posix_memalign(&data, 256, bytes) == 0 ? data : NULL;
}

void fake_give(void *data, size_t bytes)
{
    if (fake.engine)
        fake.engine->release(data, bytes);
    else
        free(data);
}

/* ------------------------------------------------------------------------------------------------- version and devices */

ENTRY(cuDriverGetVersion, (int *version))
{
    pthread_mutex_lock(&fake.lock);
    read_settings();
    *version = fake.version > 0 ? fake.version : 0;
    return fake_leave(fake.version > 0 ? 0 : -fake.version);
}

static const struct {
    int code;
    const char *name, *text;
} errors[] = {{0, "CUDA_SUCCESS", "no error"},
              {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
              {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
              {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
              {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
              {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
              {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
              {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
              {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
              {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
              {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
              {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
              {999, "CUDA_ERROR_UNKNOWN", "unknown error"}};

static tamisi_cu_result find_error(tamisi_cu_result code, const char **out, bool name)
{
    *out = NULL; /* as the driver leaves it for a code that it does not know */
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) *out = name ? errors[i].name : errors[i].text;
    return *out ? 0 : INVALID_VALUE;
}

ENTRY(cuGetErrorString, (tamisi_cu_result code, const char **out))
{
    const tamisi_cu_result result = find_error(code, out, false);
    if (code == LAUNCH_FAILED && fake.engine) *out = fake.engine->describe_failure();
    return result;
}

ENTRY(cuGetErrorName, (tamisi_cu_result code, const char **out)) { return find_error(code, out, true); }

ENTRY(cuInit, (unsigned flags))
{
    tamisi_cu_result result = fake_enter("cuInit");
    if (result == 0 && flags != 0) result = INVALID_VALUE;
    if (result == 0 && fake.devices == 0) result = NO_DEVICE;
    if (result == 0) fake.initialised = true;
    return fake_leave(result);
}

ENTRY(cuDeviceGetCount, (int *count))
{
    const tamisi_cu_result result = fake_enter("cuDeviceGetCount");
    if (result == 0) *count = fake.devices;
    return fake_leave(result);
}

static bool is_device(tamisi_cu_device device) { return device >= 0 && device < fake.devices; }

ENTRY(cuDeviceGet, (tamisi_cu_device *device, int ordinal))
{
    tamisi_cu_result result = fake_enter("cuDeviceGet");
    if (result == 0 && !is_device(ordinal)) result = INVALID_DEVICE;
    if (result == 0) *device = ordinal;
    return fake_leave(result);
}

ENTRY(cuDeviceGetName, (char *name, int size, tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDeviceGetName");
    if (result == 0 && (!is_device(device) || size <= 0)) result = INVALID_DEVICE;
    if (result == 0) snprintf(name, (size_t)size, "Fake GPU %d.%d", fake.major, fake.minor);
    return fake_leave(result);
}

/* What a block may have at most once it has asked, in bytes. */
int fake_shared_limit(void)
{
    if (fake.major == 8 && fake.minor == 0) return 163 * 1024;
    if (fake.major == 8 || fake.major == 12) return 99 * 1024;
    return fake.major >= 9 ? 227 * 1024 : 64 * 1024;
}

ENTRY(cuDeviceGetAttribute, (int *value, int attribute, tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDeviceGetAttribute");
    if (result == 0 && !is_device(device)) result = INVALID_DEVICE;
    if (result != 0) return fake_leave(result);
    switch (attribute) {
    case TAMISI_CU_ATTR_CC_MAJOR: *value = fake.major; break;
    case TAMISI_CU_ATTR_CC_MINOR: *value = fake.minor; break;
    case TAMISI_CU_ATTR_SM_COUNT: *value = fake.sms; break;
    case TAMISI_CU_ATTR_L2_BYTES: *value = 50 << 20; break;
    case TAMISI_CU_ATTR_SHARED_PER_BLOCK_OPTIN: *value = fake_shared_limit(); break;
    default: result = INVALID_VALUE;
    }
    return fake_leave(result);
}

ENTRY(cuDeviceTotalMem_v2, (size_t *bytes, tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDeviceTotalMem_v2");
    if (result == 0 && !is_device(device)) result = INVALID_DEVICE;
    if (result == 0) *bytes = fake.memory;
    return fake_leave(result);
}

ENTRY(cuDeviceGetPCIBusId, (char *out, int bytes, tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDeviceGetPCIBusId");
    if (result == 0 && !is_device(device)) result = INVALID_DEVICE;
    if (result == 0 && bytes < 13) result = INVALID_VALUE;
    if (result == 0) snprintf(out, (size_t)bytes, "0000:%02x:00.0", (unsigned)device + 16);
    return fake_leave(result);
}

/* ------------------------------------------------------------------------------------------------------------ contexts */

ENTRY(cuDevicePrimaryCtxRetain, (tamisi_cu_context *out, tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDevicePrimaryCtxRetain");
    if (result == 0 && !is_device(device)) result = INVALID_DEVICE;
    if (result == 0) {
        struct object *context = fake.contexts[device];
        if (!context || !context->live) context = fake.contexts[device] = fake_add(CONTEXT, NULL);
        context->device = device;
        context->retained++;
        fake.counts.retained++;
        *out = (tamisi_cu_context)(void *)context;
    }
    return fake_leave(result);
}

/* The last reference is gone: so is what lives in the context, but not libraries, which belong to none. */
static void end_context(struct object *context)
{
    long *const counts[] = {
        [STREAM] = &fake.counts.streams, [EVENT] = &fake.counts.events, [MEMORY] = &fake.counts.allocations};
    context->live = false;
    for (struct object *object = fake.objects; object; object = object->next) {
        if (object->parent != context || !object->live) continue;
        object->live = false;
        --*counts[object->kind];
        fake.counts.reclaimed++;
        if (object->kind == MEMORY) {
            fake_give(object->data, object->bytes);
            fake.used -= object->bytes;
        }
    }
}

/* This and whatever else gives something back does so even where it is made to fail: a driver reports there what earlier
   work did wrong. */
ENTRY(cuDevicePrimaryCtxRelease_v2, (tamisi_cu_device device))
{
    tamisi_cu_result result = fake_enter("cuDevicePrimaryCtxRelease_v2");
    struct object *context = is_device(device) ? fake.contexts[device] : NULL;
    if (!context || context->retained == 0) {
        fake_misuse("cuDevicePrimaryCtxRelease of a context that is not retained");
        return fake_leave(INVALID_CONTEXT);
    }
    fake.counts.retained--;
    if (--context->retained == 0) end_context(context);
    return fake_leave(result);
}

ENTRY(cuCtxPushCurrent_v2, (tamisi_cu_context handle))
{
    tamisi_cu_result result = fake_enter("cuCtxPushCurrent_v2");
    struct object *context = result == 0 ? fake_find("cuCtxPushCurrent", handle, CONTEXT) : NULL;
    if (result == 0 && (!context || depth == STACK)) result = INVALID_CONTEXT;
    if (result == 0) {
        stack[depth++] = context;
        fake.counts.pushed++;
    }
    return fake_leave(result);
}

ENTRY(cuCtxPopCurrent_v2, (tamisi_cu_context *out))
{
    const tamisi_cu_result result = fake_enter("cuCtxPopCurrent_v2");
    if (depth == 0) {
        fake_misuse("cuCtxPopCurrent of an empty stack");
        return fake_leave(INVALID_CONTEXT);
    }
    *out = (tamisi_cu_context)(void *)stack[--depth];
    fake.counts.pushed--;
    return fake_leave(result);
}
