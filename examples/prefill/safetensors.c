/*
 * safetensors.c: tensors by name in a model's safetensors files, which are mapped and not copied. A file begins with the
 * 64-bit length of a JSON header, which says of each tensor where behind it its bytes are.
 */
#define _POSIX_C_SOURCE 200809L
#include "prefill.h"

#include "json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_HEADER (100 << 20)
#define MOST_FILES 256

struct file {
    char *name;
    const char *data; /* mapped */
    size_t bytes;
    char *header; /* its JSON, ended by a zero */
    size_t body;  /* where tensors begin */
};

struct tensor_files {
    char *dir;
    struct file files[MOST_FILES];
    int count;
};

char *read_text(const char *path, size_t most)
{
    FILE *file = fopen(path, "rb");
    if (!file) die("%s: %s", path, strerror(errno));
    char *text = malloc(most + 1);
    if (!text) die("%s: out of memory", path);
    const size_t bytes = fread(text, 1, most, file);
    if (ferror(file) || fgetc(file) != EOF) die("%s: cannot be read, or is larger than %zu bytes", path, most);
    fclose(file);
    text[bytes] = '\0';
    return text;
}

static void map_file(struct tensor_files *files, const char *name)
{
    char path[4096];
    struct stat info;
    if (files->count == MOST_FILES) die("%s: more than %d files", files->dir, MOST_FILES);
    if (strchr(name, '/') || snprintf(path, sizeof path, "%s/%s", files->dir, name) >= (int)sizeof path)
        die("%s: \"%.80s\" is no file of the folder", files->dir, name);
    const int handle = open(path, O_RDONLY);
    if (handle < 0 || fstat(handle, &info) != 0) die("%s: %s", path, strerror(errno));
    struct file *file = &files->files[files->count++];
    *file = (struct file){.name = strdup(name), .bytes = (size_t)info.st_size};
    uint64_t length = 0;
    if (file->bytes < 8) die("%s: is no safetensors file", path);
    file->data = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, handle, 0);
    close(handle);
    if (file->data == MAP_FAILED) die("%s: %s", path, strerror(errno));
    for (int i = 7; i >= 0; i--) length = length << 8 | (unsigned char)file->data[i];
    if (length > MOST_HEADER || length > file->bytes - 8) die("%s: is no safetensors file, or a cut one", path);
    file->header = strndup(file->data + 8, (size_t)length);
    file->body = 8 + (size_t)length;
    if (!file->header || !file->name) die("%s: out of memory", path);
}

/* A member of the index's weight_map: a tensor's name and its file's. */
static void add_indexed(void *payload, struct json_text key, const struct json_value *value)
{
    struct tensor_files *files = payload;
    char name[256];
    (void)key;
    if (value->type != JSON_STRING || value->text.bytes >= sizeof name)
        die("%s: the index names no file for a tensor", files->dir);
    memcpy(name, value->text.begin, value->text.bytes);
    name[value->text.bytes] = '\0';
    for (int i = 0; i < files->count; i++)
        if (strcmp(files->files[i].name, name) == 0) return;
    map_file(files, name);
}

static void find_map(void *payload, struct json_text key, const struct json_value *value)
{
    if (json_text_is(key, "weight_map")) json_read_nested(value, add_indexed, payload);
}

struct tensor_files *tensor_files_open(const char *dir)
{
    char path[4096];
    struct tensor_files *files = calloc(1, sizeof *files);
    if (!files || !(files->dir = strdup(dir))) die("%s: out of memory", dir);
    if (snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir) >= (int)sizeof path)
        die("%s: too long a name", dir);
    if (access(path, R_OK) != 0) {
        map_file(files, "model.safetensors");
        return files;
    }
    char *text = read_text(path, MOST_HEADER);
    if (json_read_text(text, find_map, files) || files->count == 0) die("%s: has no weight_map", path);
    free(text);
    return files;
}

void tensor_files_close(struct tensor_files *files)
{
    for (int i = 0; i < files->count; i++) {
        void *data;
        memcpy(&data, &files->files[i].data, sizeof data);
        munmap(data, files->files[i].bytes);
        free(files->files[i].header);
        free(files->files[i].name);
    }
    free(files->dir);
    free(files);
}

/* ---- one tensor */

struct search {
    const struct file *file;
    const char *name;
    bool found;
    struct json_text dtype;
    double shape[2], range[2];
    int rank, ends;
};

static void read_shape(void *payload, struct json_text key, const struct json_value *value)
{
    struct search *search = payload;
    (void)key;
    if (search->rank < 2) json_value_number(value, &search->shape[search->rank]);
    search->rank++;
}

static void read_range(void *payload, struct json_text key, const struct json_value *value)
{
    struct search *search = payload;
    (void)key;
    if (search->ends < 2 && json_value_number(value, &search->range[search->ends])) search->ends++;
}

static void read_tensor(void *payload, struct json_text key, const struct json_value *value)
{
    struct search *search = payload;
    if (json_text_is(key, "dtype")) search->dtype = value->text;
    if (json_text_is(key, "shape")) json_read_nested(value, read_shape, search);
    if (json_text_is(key, "data_offsets")) json_read_nested(value, read_range, search);
}

static void find_name(void *payload, struct json_text key, const struct json_value *value)
{
    struct search *search = payload;
    if (!json_text_is(key, search->name)) return;
    search->found = true;
    json_read_nested(value, read_tensor, search);
}

static void fill_tensor(struct tensor *out, const struct search *search)
{
    const struct file *file = search->file;
    const bool bf16 = json_text_is(search->dtype, "BF16"), fp16 = json_text_is(search->dtype, "F16");
    if (!bf16 && !fp16) die("%s: %s is %.*s, BF16 or F16 would be right", file->name, search->name, (int)search->dtype.bytes,
                            search->dtype.begin ? search->dtype.begin : "");
    if (search->rank < 1 || search->rank > 2 || search->ends != 2)
        die("%s: %s is no matrix or vector", file->name, search->name);
    out->dtype = bf16 ? TAMIS_BF16 : TAMIS_FP16;
    out->rows = search->rank == 2 ? (int64_t)search->shape[0] : 1;
    out->columns = (int64_t)search->shape[search->rank - 1];
    const double bytes = 2.0 * (double)out->rows * (double)out->columns;
    const bool inside = search->range[0] >= 0 && search->range[1] - search->range[0] == bytes &&
                        search->range[1] <= (double)(file->bytes - file->body);
    if (!inside || (file->body + (size_t)search->range[0]) % 2)
        die("%s: %s does not lie in the file", file->name, search->name);
    out->data = (const uint16_t *)(const void *)(file->data + file->body + (size_t)search->range[0]);
}

bool tensor_find(struct tensor *out, struct tensor_files *files, const char *name)
{
    for (int i = 0; i < files->count; i++) {
        struct search search = {.file = &files->files[i], .name = name};
        if (json_read_text(files->files[i].header, find_name, &search)) die("%s: its header is no JSON", files->files[i].name);
        if (!search.found) continue;
        fill_tensor(out, &search);
        return true;
    }
    return false;
}
