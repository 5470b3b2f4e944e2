/*
 * store_path.c: file names of stores: the user's cache, URIs for SQLite, and whether a place can be written.
 *
 * Opens no store and no file: closing a second descriptor of a store would drop the locks that SQLite holds on it.
 * Layer: beside store_format.
 */
#define _GNU_SOURCE

#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The value of an environment variable; NULL if unset or empty. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* Make a folder and those above it. 0, or an errno value. */
static int make_folders(char *path)
{
    for (char *at = path + 1;; at++) {
        char kept = *at;

        if (kept != '/' && kept != '\0') continue;
        *at = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            int code = errno;

            /* A folder that exists may be refused for another reason first, on a read-only file system for one. */
            if (access(path, F_OK) != 0) return code;
        }
        *at = kept;
        if (kept == '\0') return 0;
    }
}

/* Folder of the cache into `out`, without the slash at its end. */
static tamis_status cache_folder(struct tamisi_buf *out)
{
    const char *own = environment("TAMIS_CACHE_DIR"), *user = environment("XDG_CACHE_HOME"), *home = environment("HOME");

    /* The XDG specification has relative paths ignored. */
    if (own != NULL) tamisi_buf_puts(out, own);
    else if (user != NULL && *user == '/') tamisi_buf_printf(out, "%s/tamis", user);
    else if (home != NULL) tamisi_buf_printf(out, "%s/.cache/tamis", home);
    else return tamisi_fail(TAMIS_ENOTFOUND, "no place for the cache: set TAMIS_CACHE_DIR, XDG_CACHE_HOME or HOME");
    return out->failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory") : TAMIS_OK;
}

tamis_status tamisi_path_cache(struct tamisi_buf *out, bool make_folder)
{
    int code = 0;

    tamisi_buf_clear(out);
    TAMIS_TRY(cache_folder(out));
    if (make_folder) code = make_folders(out->data);
    if (code != 0) return tamisi_fail(TAMIS_EIO, "cannot make the folder %s: %s", out->data, strerror(code));
    tamisi_buf_puts(out, "/cache.tamis");
    return out->failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory") : TAMIS_OK;
}

tamis_status tamisi_store_cache_path(struct tamisi_buf *out)
{
    return tamisi_path_cache(out, true);
}

void tamisi_path_uri(struct tamisi_buf *out, const char *path)
{
    /* "./" keeps ":memory:" a file name, and the empty authority keeps "//x" from being read as a host. */
    tamisi_buf_puts(out, *path == '/' ? "file://" : "file:./");
    for (; *path != '\0'; path++) {
        if (strchr("?#%", *path) != NULL) tamisi_buf_printf(out, "%%%02X", (unsigned)*path);
        else tamisi_buf_append(out, path, 1);
    }
}

static int denied(const char *path, int how)
{
    return faccessat(AT_FDCWD, path, how, AT_EACCESS) == 0 ? 0 : errno;
}

int tamisi_path_unwritable(const char *path)
{
    /* A journal lies beside the file itself, not beside a link to it. */
    char *real = realpath(path, NULL);
    char *folder = real != NULL ? real : strdup(path);
    char *slash;
    int code;

    if (folder == NULL) return ENOMEM;
    code = real != NULL ? denied(real, W_OK) : 0;
    slash = strrchr(folder, '/');
    if (slash != NULL) slash[slash == folder ? 1 : 0] = '\0';
    if (code == 0) code = denied(slash != NULL ? folder : ".", W_OK | X_OK);
    free(folder);
    return code;
}
