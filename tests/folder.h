/*
 * folder.h: a temporary folder for the running test: made before it, and removed with all that is in it.
 */
#ifndef FOLDER_H
#define FOLDER_H

#include <limits.h>

extern char folder[PATH_MAX / 2];

void folder_make(const char *suite); /* under $TMPDIR, with the suite's name in its own */
void folder_remove(void);

const char *folder_file(const char *name);             /* its path, good until the fourth call from now */
void folder_write(const char *name, const char *text); /* a file in it */
void folder_add(const char *name);                     /* a folder in it */

#endif
