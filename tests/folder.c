/*
 * folder.c: the folder of the running test. Tests run one at a time, each in a process of its own or after the other.
 */
#define _POSIX_C_SOURCE 200809L

#include "folder.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char folder[PATH_MAX / 2];

void folder_make(const char *suite)
{
    const char *temp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/tamis-%s-XXXXXX", temp && *temp ? temp : "/tmp", suite);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_all(const char *path)
{
    DIR *directory = opendir(path);
    for (struct dirent *item; directory && (item = readdir(directory));) {
        char child[PATH_MAX];
        snprintf(child, sizeof child, "%s/%s", path, item->d_name);
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0 && unlink(child) != 0) remove_all(child);
    }
    if (directory) closedir(directory);
    rmdir(path);
}

void folder_remove(void) { remove_all(folder); }

const char *folder_file(const char *name)
{
    static char paths[4][PATH_MAX];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

void folder_write(const char *name, const char *text)
{
    FILE *file = fopen(folder_file(name), "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), file), strlen(text));
    ck_assert_int_eq(fclose(file), 0);
}

void folder_add(const char *name) { ck_assert_int_eq(mkdir(folder_file(name), 0700), 0); }
