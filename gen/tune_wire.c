/*
 * tune_wire.c: see tune_wire.h.
 */
#define _GNU_SOURCE
#include "tune_wire.h"

#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* Until there is something to read, or time is up: ETIMEDOUT. */
static bool wait_for(int file, double until)
{
    for (;;) {
        struct pollfd poller = {.fd = file, .events = POLLIN};
        const double left = until - cli_seconds();
        const int ready = until < 0 ? poll(&poller, 1, -1) : left > 0 ? poll(&poller, 1, (int)(1000 * left) + 1) : 0;
        if (ready > 0) return true;
        if (ready < 0 && errno != EINTR) return false;
        if (until < 0 || left > 0) continue;
        errno = ETIMEDOUT;
        return false;
    }
}

bool tune_wire_read(int file, void *out, size_t bytes, double seconds)
{
    const double until = seconds < 0 ? -1 : cli_seconds() + seconds;
    for (size_t done = 0; done < bytes;) {
        if (!wait_for(file, until)) return false;
        const ssize_t got = read(file, (char *)out + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got == 0) errno = 0;
        if (got <= 0) return false;
        done += (size_t)got;
    }
    return true;
}

bool tune_wire_write(int file, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t put = write(file, (const char *)data + done, bytes - done);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        done += (size_t)put;
    }
    return true;
}
