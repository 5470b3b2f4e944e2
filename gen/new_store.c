/*
 * new_store.c: a store made beside its place, compacted, and renamed over what was there.
 */
#define _GNU_SOURCE
#include "new_store.h"

#include "data.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A journal beside the old store belongs to it: SQLite would play it back into the new one. */
static int check_place(struct cli *cli, const char *path)
{
    char journal[PATH_MAX + 16];
    struct stat info;
    if (strlen(path) >= PATH_MAX) return cli_error(cli, CLI_FAILED, "%s: the name is too long", path);
    const bool there = stat(path, &info) == 0;
    if (there && !S_ISREG(info.st_mode)) return cli_error(cli, CLI_FAILED, "%s: is not a regular file", path);
    if (there && info.st_size > 0 && !data_is_store(path))
        return cli_error(cli, CLI_FAILED, "%s: is there and no store, so it stays: remove it, or name another file", path);
    snprintf(journal, sizeof journal, "%s-journal", path);
    if (access(journal, F_OK) != 0) return CLI_OK;
    return cli_error(cli, CLI_FAILED,
                     "%s lies beside it: %s is in use, or a write was cut off, which 'tamis cache gc %s' mends", journal, path,
                     path);
}

/* The file that it becomes has the rights that any new file has. */
static int make_temporary(struct cli *cli, struct new_store *new_store)
{
    snprintf(new_store->temporary, sizeof new_store->temporary, "%s.XXXXXX", new_store->path);
    const int file = mkstemp(new_store->temporary);
    if (file < 0) {
        new_store->temporary[0] = '\0';
        return cli_error(cli, CLI_FAILED, "cannot make a file beside %s: %s", new_store->path, strerror(errno));
    }
    const mode_t mask = umask(0);
    umask(mask);
    const bool done = fchmod(file, 0666 & ~mask) == 0;
    close(file);
    return done ? CLI_OK : cli_error(cli, CLI_FAILED, "%s: %s", new_store->temporary, strerror(errno));
}

int new_store_open(struct cli *cli, struct new_store *new_store, const char *path)
{
    const tamis_store_options options = {sizeof options, TAMIS_STORE_CREATE, cli_log, cli};
    *new_store = (struct new_store){.path = path};
    int code = check_place(cli, path);
    if (code == CLI_OK) code = make_temporary(cli, new_store);
    if (code != CLI_OK) return code;
    tamis_status status = tamis_store_open(&new_store->store, new_store->temporary, &options);
    if (status == TAMIS_OK) status = tamisi_store_begin(new_store->store);
    return status == TAMIS_OK ? CLI_OK : cli_fail(cli, status);
}

int new_store_finish(struct cli *cli, struct new_store *new_store, long long *bytes)
{
    struct stat info;
    tamis_status status = tamisi_store_commit(new_store->store);
    if (status == TAMIS_OK) status = tamisi_store_compact(new_store->store);
    if (status != TAMIS_OK) return cli_fail(cli, status);
    tamis_store_free(new_store->store);
    new_store->store = NULL;
    if (stat(new_store->temporary, &info) != 0 || rename(new_store->temporary, new_store->path) != 0)
        return cli_error(cli, CLI_FAILED, "cannot put %s in its place: %s", new_store->path, strerror(errno));
    new_store->temporary[0] = '\0';
    *bytes = (long long)info.st_size;
    return CLI_OK;
}

/* On a full disk SQLite leaves its journal behind. */
static void remove_temporary(const struct new_store *new_store)
{
    char journal[sizeof new_store->temporary + 16];
    snprintf(journal, sizeof journal, "%s-journal", new_store->temporary);
    unlink(new_store->temporary);
    unlink(journal);
}

void new_store_free(struct new_store *new_store)
{
    tamis_store_free(new_store->store);
    new_store->store = NULL;
    if (new_store->temporary[0]) remove_temporary(new_store);
    new_store->temporary[0] = '\0';
}
