/*
 * fake_cuda_state.h: what the two files of the fake libcuda share.
 */
#ifndef FAKE_CUDA_STATE_H
#define FAKE_CUDA_STATE_H

#include "driver.h"
#include "fake_cuda.h"
#include "fake_engine.h"

#include <pthread.h>

enum { /* CUresult */
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719 /* which an engine may say */
};

enum kind { CONTEXT, LIBRARY, KERNEL, STREAM, EVENT, MEMORY, GRAPH };

/* Whatever a handle stands for. Never given back, so that a handle used after its end is recognised as such. */
struct object {
    enum kind kind;
    bool live;
    struct object *parent; /* a kernel's library; a stream's, an event's or memory's context */
    struct object *next;
    int device;         /* of a context */
    long retained;      /* the same */
    char text[96];      /* a library's data, a kernel's symbol */
    int dynamic_shared; /* that a kernel may have */
    void *code;         /* of a library or kernel, where an engine runs it */
    char *data;         /* of memory */
    size_t bytes;
};

#define FAKE_FAILURES 8
#define FAKE_DEVICES 8

struct fake_state {
    pthread_mutex_t lock;
    bool read, initialised;
    int devices, major, minor, version, sms;
    size_t memory, used;
    char missing[96];
    struct {
        char function[48];
        long nth;
        int code;
    } failures[FAKE_FAILURES];
    unsigned long long assumed; /* addresses that a test uses without allocating */
    size_t assumed_bytes;
    struct {
        unsigned long long address;
        size_t bytes;
        const void *stream;
    } cleared; /* since the last launch */
    struct fake_cuda_counts counts;
    const struct fake_engine *engine; /* NULL: nothing runs */
    struct object *objects;
    struct object *contexts[FAKE_DEVICES];
    void (*watch)(void *payload, const struct fake_cuda_launch *launch);
    void *watch_payload;
};
extern struct fake_state fake;

/* An entry point with its prototype, which no header that is included here has. */
#define ENTRY(name, parameters)                                                                                            \
    TAMIS_API tamisi_cu_result name parameters;                                                                            \
    tamisi_cu_result name parameters

/* A call that can fail: takes the lock; the code of the failure that is due, or 0. */
tamisi_cu_result fake_enter(const char *function);
tamisi_cu_result fake_leave(tamisi_cu_result result); /* gives the lock back and returns `result` */
__attribute__((format(printf, 1, 2))) void fake_misuse(const char *format, ...);

struct object *fake_add(enum kind kind, struct object *parent);
/* These return NULL, or false, with a misuse noted where there is no such thing. */
struct object *fake_find(const char *function, const void *handle, enum kind kind);
struct object *fake_context(const char *function); /* the thread's current one */
bool fake_stream_fits(const char *function, const void *stream, const struct object *context);
char *fake_memory(const char *function, tamisi_cu_deviceptr address, size_t bytes);

void *fake_take(size_t bytes); /* device memory; NULL: none left */
void fake_give(void *data, size_t bytes);

int fake_shared_limit(void); /* what a block may have at most once it has asked, in bytes */

#endif
