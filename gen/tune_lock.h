/*
 * tune_lock.h: one tuner at a time for a store. Two would disturb each other's times, and each would take the other's
 * candidates for ones that it did not come back from. Layer: lowest of the tuner.
 */
#ifndef TUNE_LOCK_H
#define TUNE_LOCK_H

#include <stdbool.h>

/*
 * False: another process of this machine tunes the store, a file that is there. `*lock` goes to tune_lock_release(), and with
 * the process, however that ends; -1 where the system has no such locks, which is no failure.
 */
bool tune_lock_take(int *lock, const char *store);
void tune_lock_release(int lock);

#endif
