/*
 * data.c: finding the data folder, and specs by their names. Opens nothing but folders.
 */
#define _GNU_SOURCE
#include "data.h"

#include "error.h"
#include "nearest.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

/* Does `dir` hold the data? Then it is the one. */
static bool take(struct data *out, const char *dir, const char *origin)
{
    if (strlen(dir) >= sizeof out->dir) return false;
    snprintf(out->dir, sizeof out->dir, "%s", dir);
    snprintf(out->templates_dir, sizeof out->templates_dir, "%s/templates", dir);
    snprintf(out->abi_dir, sizeof out->abi_dir, "%s/runtime", dir);
    snprintf(out->specs_dir, sizeof out->specs_dir, "%s/specs", dir);
    out->origin = origin;
    return is_folder(out->templates_dir) && is_folder(out->abi_dir);
}

/* The data of an installed tool: TAMIS_DATA_FROM_BIN, "../share/tamis", from its folder. False where none is told. */
static bool installed_dir(char out[PATH_MAX + sizeof TAMIS_DATA_FROM_BIN])
{
    char program[PATH_MAX];
    const char *below = TAMIS_DATA_FROM_BIN;
    const ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
    if (bytes <= 0) return false;
    program[bytes] = '\0';
    char *slash = strrchr(program, '/');
    for (; slash && strncmp(below, "../", 3) == 0; slash = strrchr(program, '/')) {
        *slash = '\0';
        below += 3;
    }
    if (!slash) return false;
    *slash = '\0';
    snprintf(out, PATH_MAX + sizeof TAMIS_DATA_FROM_BIN, "%s/%s", program, below);
    return true;
}

tamis_status data_find(struct data *out)
{
    const char *own = getenv("TAMIS_DATA_DIR");
    char installed[PATH_MAX + sizeof TAMIS_DATA_FROM_BIN];
    if (own && *own) {
        if (take(out, own, "TAMIS_DATA_DIR")) return TAMIS_OK;
        return tamisi_fail(TAMIS_ENOTFOUND, "TAMIS_DATA_DIR is %s, which has no templates/ and runtime/", own);
    }
    const bool known = installed_dir(installed);
    if (known && take(out, installed, "installed")) return TAMIS_OK;
    if (take(out, TAMIS_SOURCE_DIR, "source tree")) return TAMIS_OK;
    return tamisi_fail(TAMIS_ENOTFOUND, "no data folder: neither %s nor %s has templates/ and runtime/, set TAMIS_DATA_DIR",
                       known ? installed : TAMIS_DATA_FROM_BIN, TAMIS_SOURCE_DIR);
}

static int only_yaml(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot && dot > entry->d_name && strcmp(dot, ".yaml") == 0;
}

char **data_spec_names(const struct data *data, int *count)
{
    struct dirent **entries;
    *count = 0;
    const int found = scandir(data->specs_dir, &entries, only_yaml, alphasort);
    if (found < 0) return NULL;
    char **names = found ? calloc((size_t)found, sizeof *names) : NULL;
    for (int i = 0; i < found; i++) {
        *strrchr(entries[i]->d_name, '.') = '\0';
        char *name = names ? strdup(entries[i]->d_name) : NULL;
        if (name) names[(*count)++] = name;
        free(entries[i]);
    }
    free(entries);
    return names;
}

void data_spec_names_free(char **names, int count)
{
    for (int i = 0; i < count; i++) free(names[i]);
    free(names);
}

/* "no spec NAME: did you mean ..." from the names in specs/. */
static tamis_status fail_spec(const struct data *data, const char *spec)
{
    char advice[512];
    int count;
    char **names = data_spec_names(data, &count);
    if (count > 0) nearest_describe(advice, sizeof advice, spec, (const char *const *)names, count);
    data_spec_names_free(names, count);
    if (count == 0)
        return tamisi_fail(TAMIS_ENOTFOUND, "no spec %s: no such file, and there is none in %s", spec, data->specs_dir);
    return tamisi_fail(TAMIS_ENOTFOUND, "no spec %s, neither a file nor one of specs/: %s", spec, advice);
}

tamis_status data_spec_path(char out[PATH_MAX + 80], const struct data *data, const char *spec)
{
    const size_t room = PATH_MAX + 80;
    if (strlen(spec) >= PATH_MAX) return tamisi_fail(TAMIS_ENOTFOUND, "no such spec: its name is too long");
    snprintf(out, room, "%s", spec);
    if (is_file(out)) return TAMIS_OK;
    const char *dot = strrchr(spec, '.');
    if (strchr(spec, '/') || (dot && strcmp(dot, ".yaml") == 0))
        return tamisi_fail(TAMIS_ENOTFOUND, "no spec %s: no such file", spec);
    snprintf(out, room, "%s.yaml", spec);
    if (is_file(out)) return TAMIS_OK;
    if (snprintf(out, room, "%s/%s.yaml", data->specs_dir, spec) < (int)room && is_file(out)) return TAMIS_OK;
    return fail_spec(data, spec);
}

bool data_is_store(const char *path)
{
    char head[16] = "";
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    const size_t bytes = fread(head, 1, sizeof head, file);
    fclose(file);
    return bytes == sizeof head && memcmp(head, "SQLite format 3", sizeof head) == 0;
}
