/*
 * check_alloc.h: counting, and refusing, what the program allocates. The test program's own malloc and its relatives stand
 * before the C library's and pass everything on.
 */
#ifndef CHECK_ALLOC_H
#define CHECK_ALLOC_H

#include <stdbool.h>

/*
 * False where something else has taken malloc's place, a sanitizer or valgrind: tests that need the counts then have
 * nothing to say. Fails the test where malloc is not counted for no such reason.
 */
bool alloc_counted(void);

long long alloc_count(void); /* calls so far that allocate, on all threads */

/* Refuse the call after the next `passed` ones, and all behind it, until alloc_refuse(-1). */
void alloc_refuse(long long passed);

#endif
