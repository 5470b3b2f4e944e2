/*
 * cli_file.c: files that a command writes in the user's place, as a whole or not at all. See cli.h.
 */
#define _POSIX_C_SOURCE 200809L
#include "cli.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int cli_write_file(struct cli *cli, const char *path, const struct tamisi_buf *text)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof temporary)
        return cli_error(cli, CLI_FAILED, "%s: the name is too long", path);
    FILE *file = fopen(temporary, "wx");
    if (!file) return cli_error(cli, CLI_FAILED, "%s: cannot be written: %s", path, strerror(errno));
    bool written = fwrite(text->data, 1, text->size, file) == text->size;
    written = fclose(file) == 0 && written;
    if (written && rename(temporary, path) == 0) return CLI_OK;
    const int code = cli_error(cli, CLI_FAILED, "%s: cannot be written: %s", path, strerror(errno));
    unlink(temporary);
    return code;
}
