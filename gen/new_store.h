/*
 * new_store.h: a store that is made whole beside its place and then put there: whoever opens the name sees the old one or
 * the new one. Above the runtime's store, below cmd_*.c.
 */
#ifndef NEW_STORE_H
#define NEW_STORE_H

#include "cli.h"
#include "store.h"

#include <limits.h>

struct new_store {
    const char *path;
    char temporary[PATH_MAX + 8];
    tamis_store *store; /* in a transaction */
};

/* Both return an exit code, with the message printed. After either new_store_free is safe. */
int new_store_open(struct cli *cli, struct new_store *new_store, const char *path);
int new_store_finish(struct cli *cli, struct new_store *new_store, long long *bytes); /* of the file */
void new_store_free(struct new_store *new_store); /* what is not finished goes */

#endif
