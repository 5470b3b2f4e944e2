/*
 * cli_file.c: files that a command reads, and those that it writes in the user's place, as a whole or not at all. See cli.h.
 */
#define _GNU_SOURCE
#include "cli.h"

#include "data.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(struct cli *cli, const char *path)
{
    return cli_error(cli, CLI_FAILED, "%s: cannot be written: %s", path, strerror(errno));
}

/* Closes the file; false with the errno of what failed first. */
static bool put(FILE *file, const struct tamisi_buf *text, bool on_disk)
{
    const bool done = fwrite(text->data, 1, text->size, file) == text->size && fflush(file) == 0 &&
                      (!on_disk || fsync(fileno(file)) == 0);
    const int reason = errno;
    if (fclose(file) != 0 && done) return false;
    errno = reason;
    return done;
}

/* A pipe or a terminal: there is nothing to keep, and nothing may take its place. */
static int write_through(struct cli *cli, const char *path, const struct tamisi_buf *text)
{
    FILE *file = fopen(path, "w");
    return file && put(file, text, false) ? CLI_OK : fail(cli, path);
}

/* Beside its place, on the disk, and only then there. `rights` 0: those of any new file. */
static bool replace(const char *place, mode_t rights, const struct tamisi_buf *text)
{
    char temporary[PATH_MAX + 32];
    snprintf(temporary, sizeof temporary, "%s.%ld.tmp", place, (long)getpid());
    const int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return false;
    if (rights) (void)!fchmod(file, rights); /* a file system without rights has none to keep */
    FILE *stream = fdopen(file, "w");
    if (!stream) close(file);
    if (stream && put(stream, text, true) && rename(temporary, place) == 0) return true;
    const int reason = errno;
    unlink(temporary);
    errno = reason;
    return false;
}

int cli_write_file(struct cli *cli, const char *path, const struct tamisi_buf *text)
{
    char place[PATH_MAX];
    struct stat info;
    if (stat(path, &info) == 0) {
        if (!S_ISREG(info.st_mode)) return write_through(cli, path, text);
        if (data_is_store(path)) return cli_error(cli, CLI_FAILED, "%s: is a store, which stays: name another file", path);
        /* What a link points to changes, and not the link; what may not be written stays, in whosever folder it is. */
        const bool done = realpath(path, place) && access(place, W_OK) == 0 && replace(place, info.st_mode & 07777, text);
        return done ? CLI_OK : fail(cli, path);
    }
    return errno == ENOENT && replace(path, 0, text) ? CLI_OK : fail(cli, path);
}

tamis_status cli_read_file(struct tamisi_buf *out, const char *path, size_t most, const char *most_text)
{
    char block[65536];
    size_t bytes;
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (!file) return tamisi_fail(errno == ENOENT ? TAMIS_ENOTFOUND : TAMIS_EIO, "%s: %s", path, strerror(errno));
    tamisi_buf_puts(out, "");
    while (out->size <= most && !out->failed && (bytes = fread(block, 1, sizeof block, file)) > 0)
        tamisi_buf_append(out, block, bytes);
    const int reason = ferror(file) ? errno : 0;
    if (file != stdin) fclose(file);
    if (reason) return tamisi_fail(TAMIS_EIO, "%s: cannot read: %s", path, strerror(reason));
    if (out->failed) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", path);
    return out->size <= most ? TAMIS_OK : tamisi_fail(TAMIS_EINVAL, "%s: is larger than %s", path, most_text);
}
