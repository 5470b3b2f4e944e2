/*
 * tune_lock.c: see tune_lock.h. The lock is a name of Linux's abstract sockets: it needs no file that could be left behind, and
 * no lock on the store's file, which SQLite would lose its own by.
 */
#define _GNU_SOURCE
#include "tune_lock.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool tune_lock_take(int *lock, const char *store)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat info;
    *lock = -1;
    if (stat(store, &info) != 0) return true;
    const int bytes = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "tamis tune %llu:%llu",
                               (unsigned long long)info.st_dev, (unsigned long long)info.st_ino);
    const socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)bytes);
    const int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (file < 0) return true;
    if (bind(file, (const struct sockaddr *)&name, size) == 0) {
        *lock = file;
        return true;
    }
    const bool taken = errno == EADDRINUSE;
    close(file);
    return !taken;
}

void tune_lock_release(int lock)
{
    if (lock >= 0) close(lock);
}
