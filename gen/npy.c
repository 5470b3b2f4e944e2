/*
 * npy.c: reading and writing .npy files. The header is a Python dictionary in text; what is read of it is the fixed form
 * that NumPy writes, with its three keys in any order and either kind of quote. Nothing is evaluated, and no number in it
 * is believed before it has been compared with the file's size.
 */
#define _GNU_SOURCE
#include "npy.h"

#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREAMBLE_MAX 12      /* magic, version and the header's length */
#define HEADER_MAX 65536     /* bytes of text; NumPy's are below 200 */
#define DATA_ALIGN ((size_t)64)

static const struct {
    const char *descr, *name;
    size_t bytes;
} types[] = {[NPY_U16] = {"<u2", "uint16", 2},
             [NPY_F16] = {"<f2", "float16", 2},
             [NPY_F32] = {"<f4", "float32", 4},
             [NPY_I32] = {"<i4", "int32", 4},
             [NPY_F64] = {"<f8", "float64", 8}};
#define TYPE_COUNT ((int)(sizeof types / sizeof *types))

size_t npy_type_bytes(enum npy_type type) { return types[type].bytes; }
const char *npy_type_name(enum npy_type type) { return types[type].name; }

void npy_free(struct npy *npy)
{
    free(npy->data);
    npy->data = NULL;
    npy->bytes = 0;
}

/* ---- the header's text */

static const char dictionary[] = "{'descr': ..., 'fortran_order': False, 'shape': (...)} would be right";

struct header {
    const char *name;      /* of the file, for messages */
    const char *at, *end;  /* what is left of the text */
    struct npy *out;
    bool has_descr, has_order, has_shape;
};

static tamis_status bad(const struct header *header, const char *what, const char *right)
{
    return tamisi_fail(TAMIS_EINVAL, "%s: %s, %s", header->name, what, right);
}

static void skip_space(struct header *header)
{
    while (header->at < header->end && (*header->at == ' ' || *header->at == '\t' || *header->at == '\n')) header->at++;
}

/* Skip space, then take `mark` if it stands there. */
static bool take(struct header *header, char mark)
{
    skip_space(header);
    if (header->at == header->end || *header->at != mark) return false;
    header->at++;
    return true;
}

static bool take_word(struct header *header, const char *word)
{
    skip_space(header);
    const size_t length = strlen(word);
    if ((size_t)(header->end - header->at) < length || memcmp(header->at, word, length) != 0) return false;
    header->at += length;
    return true;
}

/* A quoted string without escapes, of printable ASCII, so that it can stand in a message. */
static bool take_string(struct header *header, char *out, size_t size)
{
    skip_space(header);
    if (header->at == header->end || (*header->at != '\'' && *header->at != '"')) return false;
    const char quote = *header->at++;
    size_t length = 0;
    while (header->at < header->end && *header->at != quote) {
        const char c = *header->at++;
        if (c < ' ' || c > '~' || c == '\\' || length + 1 >= size) return false;
        out[length++] = c;
    }
    out[length] = '\0';
    if (header->at == header->end) return false;
    header->at++;
    return true;
}

static tamis_status read_descr(struct header *header)
{
    static const char right[] = "little-endian uint16, float16, float32, int32 or float64 would be right";
    char descr[16], what[48];
    if (!take_string(header, descr, sizeof descr)) return bad(header, "its descr is not a simple type", right);
    for (int type = 0; type < TYPE_COUNT; type++)
        if (strcmp(descr, types[type].descr) == 0) {
            header->out->type = (enum npy_type)type;
            return TAMIS_OK;
        }
    snprintf(what, sizeof what, "its descr is '%s'%s", descr, descr[0] == '>' ? " (big-endian)" : "");
    return bad(header, what, right);
}

static tamis_status read_order(struct header *header)
{
    if (take_word(header, "False")) return TAMIS_OK;
    if (take_word(header, "True")) return bad(header, "it is in Fortran order", "C order would be right");
    return bad(header, "its fortran_order is neither True nor False", "False would be right");
}

static const char integers[] = "non-negative integers in parentheses would be right";

/* Digits only: a sign, a point or a name is no dimension. */
static tamis_status read_dimension(struct header *header, long long *out)
{
    long long value = 0;
    if (header->at < header->end && *header->at == '-') return bad(header, "its shape has a negative dimension", integers);
    if (header->at == header->end || *header->at < '0' || *header->at > '9')
        return bad(header, "its shape is not a tuple of integers", integers);
    for (; header->at < header->end && *header->at >= '0' && *header->at <= '9'; header->at++)
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *header->at - '0', &value))
            return bad(header, "its shape has a dimension past 2^63", "one that matches the file's size would be right");
    *out = value;
    return TAMIS_OK;
}

static tamis_status read_shape(struct header *header)
{
    struct npy *out = header->out;
    bool comma = true;
    out->rank = 0;
    if (!take(header, '(')) return bad(header, "its shape is not a tuple of integers", integers);
    while (!take(header, ')')) {
        if (!comma) return bad(header, "its shape is not a tuple of integers", integers);
        if (out->rank == NPY_MAX_RANK)
            return bad(header, "its shape has more than 6 dimensions", "at most 6 would be right");
        TAMIS_TRY(read_dimension(header, &out->shape[out->rank]));
        out->rank++;
        comma = take(header, ',');
    }
    if (out->rank == 1 && !comma) /* Python's (2) is a number */
        return bad(header, "its shape is not a tuple of integers", integers);
    return TAMIS_OK;
}

static tamis_status read_member(struct header *header)
{
    const struct {
        const char *key;
        bool *has;
        tamis_status (*read)(struct header *header);
    } members[] = {{"descr", &header->has_descr, read_descr},
                   {"fortran_order", &header->has_order, read_order},
                   {"shape", &header->has_shape, read_shape}};
    char key[32], what[96];
    if (!take_string(header, key, sizeof key) || !take(header, ':'))
        return bad(header, "its header is not a dictionary", dictionary);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (strcmp(key, members[i].key) != 0) continue;
        snprintf(what, sizeof what, "its header has '%s' twice", key);
        if (*members[i].has) return bad(header, what, "once would be right");
        *members[i].has = true;
        return members[i].read(header);
    }
    snprintf(what, sizeof what, "its header has the unknown key '%s'", key);
    return bad(header, what, "descr, fortran_order and shape would be right");
}

static tamis_status read_text(struct header *header)
{
    bool comma = true;
    if (!take(header, '{')) return bad(header, "its header is not a dictionary", dictionary);
    while (!take(header, '}')) {
        if (!comma || header->at == header->end) return bad(header, "its header does not end", dictionary);
        TAMIS_TRY(read_member(header));
        comma = take(header, ',');
    }
    skip_space(header);
    if (header->at != header->end) return bad(header, "its header goes on after the dictionary", dictionary);
    if (!header->has_descr || !header->has_order || !header->has_shape)
        return tamisi_fail(TAMIS_EINVAL, "%s: its header lacks '%s', %s", header->name,
                           !header->has_descr   ? "descr"
                           : !header->has_order ? "fortran_order"
                                                : "shape",
                           dictionary);
    return TAMIS_OK;
}

/* ---- the file around it */

/* Where the header's text begins, and its length; `head` is the file's first `bytes` bytes. */
static tamis_status read_preamble(const char *name, const unsigned char *head, size_t bytes, size_t *start, size_t *length)
{
    static const unsigned char magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    if (bytes < 10 || memcmp(head, magic, sizeof magic) != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: not an .npy file, one that numpy.save writes would be right", name);
    const unsigned major = head[6], minor = head[7];
    if (major < 1 || major > 3 || minor != 0)
        return tamisi_fail(TAMIS_EINVAL, "%s: .npy version %u.%u, 1.0 to 3.0 would be right", name, major, minor);
    *start = major == 1 ? 10 : 12;
    *length = bytes < *start ? 0 : (size_t)head[8] | (size_t)head[9] << 8;
    if (major > 1 && bytes >= *start) *length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (*length > HEADER_MAX)
        return tamisi_fail(TAMIS_EINVAL, "%s: a header of %zu bytes, at most %d would be right", name, *length, HEADER_MAX);
    if (bytes < *start || bytes - *start < *length)
        return tamisi_fail(TAMIS_EINVAL, "%s: its header is cut off, %zu bytes of it would be right", name, *length);
    return TAMIS_OK;
}

/* Bytes of data by type and shape; false if past what can be counted. */
static bool count_bytes(size_t *out, enum npy_type type, int rank, const long long *shape)
{
    size_t bytes = types[type].bytes;
    for (int i = 0; i < rank; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(bytes, (size_t)shape[i], &bytes)) return false;
    *out = bytes;
    return bytes <= SIZE_MAX / 2;
}

/* Everything but the data: out->data is NULL. `head` is as much of the file as may be header; *start: where data begins. */
static tamis_status read_head(struct npy *out, size_t *start, const char *name, const unsigned char *head, size_t head_bytes,
                              size_t file_bytes)
{
    size_t text = 0, length = 0;
    *out = (struct npy){0};
    TAMIS_TRY(read_preamble(name, head, head_bytes, &text, &length));
    struct header header = {.name = name, .at = (const char *)head + text, .out = out};
    header.end = header.at + length;
    TAMIS_TRY(read_text(&header));
    *start = text + length;
    if (!count_bytes(&out->bytes, out->type, out->rank, out->shape))
        return tamisi_fail(TAMIS_EINVAL, "%s: its shape overflows, one that matches the file's size would be right", name);
    if (out->bytes != file_bytes - *start)
        return tamisi_fail(TAMIS_EINVAL, "%s: %zu bytes of data, %zu would be right by its shape", name, file_bytes - *start,
                           out->bytes);
    return TAMIS_OK;
}

/* Memory for the data; one aligned block even where there are none. */
static tamis_status make_data(struct npy *out, const char *name)
{
    out->data = aligned_alloc(DATA_ALIGN, (out->bytes / DATA_ALIGN + 1) * DATA_ALIGN);
    return out->data ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "%s: out of memory for %zu bytes", name, out->bytes);
}

tamis_status npy_parse(struct npy *out, const char *name, const void *file, size_t bytes)
{
    struct npy read;
    size_t start;
    TAMIS_TRY(read_head(&read, &start, name, file, bytes, bytes));
    TAMIS_TRY(make_data(&read, name));
    memcpy(read.data, (const char *)file + start, read.bytes);
    *out = read;
    return TAMIS_OK;
}

/* Fill `bytes` bytes from `offset` on. */
static tamis_status read_all(int fd, const char *path, void *out, size_t bytes, size_t offset)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t got = pread(fd, (char *)out + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return tamisi_fail(TAMIS_EIO, "cannot read %s: %s", path, strerror(errno));
        if (got == 0) return tamisi_fail(TAMIS_EIO, "cannot read %s: it became shorter meanwhile", path);
        done += (size_t)got;
    }
    return TAMIS_OK;
}

/* The data goes straight to its place, so that a large file is not held twice. */
static tamis_status read_open(struct npy *out, int fd, const char *path, size_t file_bytes)
{
    const size_t head_max = HEADER_MAX + PREAMBLE_MAX, head_bytes = file_bytes < head_max ? file_bytes : head_max;
    unsigned char *head = malloc(head_max);
    if (!head) return tamisi_fail(TAMIS_ENOMEM, "%s: out of memory", path);
    struct npy read = {0};
    size_t start = 0;
    tamis_status status = read_all(fd, path, head, head_bytes, 0);
    if (status == TAMIS_OK) status = read_head(&read, &start, path, head, head_bytes, file_bytes);
    free(head);
    TAMIS_TRY(status);
    TAMIS_TRY(make_data(&read, path));
    status = read_all(fd, path, read.data, read.bytes, start);
    if (status != TAMIS_OK) {
        npy_free(&read);
        return status;
    }
    *out = read;
    return TAMIS_OK;
}

tamis_status npy_read(struct npy *out, const char *path)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make the tool wait */
    if (fd < 0)
        return tamisi_fail(errno == ENOENT ? TAMIS_ENOTFOUND : TAMIS_EIO, "cannot open %s: %s", path, strerror(errno));
    tamis_status status;
    if (fstat(fd, &info) != 0)
        status = tamisi_fail(TAMIS_EIO, "cannot read %s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = tamisi_fail(TAMIS_EINVAL, "%s: not a regular file, an .npy file would be right", path);
    else
        status = read_open(out, fd, path, (size_t)info.st_size);
    close(fd);
    return status;
}

/* ---- writing */

/* The whole head of a version 1.0 file, padded so that data begins at a multiple of 64. Returns its length. */
static size_t make_head(char out[512], enum npy_type type, int rank, const long long *shape)
{
    int length = 10 + snprintf(out + 10, 502, "{'descr': '%s', 'fortran_order': False, 'shape': (", types[type].descr);
    for (int i = 0; i < rank; i++)
        length += snprintf(out + length, (size_t)(512 - length), "%s%lld%s", i ? " " : "", shape[i],
                           i + 1 < rank || rank == 1 ? "," : "");
    length += snprintf(out + length, (size_t)(512 - length), "), }");
    const int padded = (length + 1 + 63) / 64 * 64;
    memset(out + length, ' ', (size_t)(padded - length));
    out[padded - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01", 8); /* the literal's own zero is the minor version */
    out[8] = (char)((padded - 10) & 0xff);
    out[9] = (char)((padded - 10) >> 8);
    return (size_t)padded;
}

static bool write_all(int fd, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        const ssize_t wrote = write(fd, (const char *)data + done, bytes - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return false;
        done += (size_t)wrote;
    }
    return true;
}

tamis_status npy_write(const char *path, enum npy_type type, int rank, const long long *shape, const void *data)
{
    static atomic_uint serial; /* threads may write one path at once */
    char head[512], temporary[PATH_MAX];
    size_t bytes;
    if (rank < 0 || rank > NPY_MAX_RANK || !count_bytes(&bytes, type, rank, shape))
        return tamisi_fail(TAMIS_EINVAL, "%s: a bad shape to write, 0 to 6 non-negative dimensions would be right", path);
    const int length = snprintf(temporary, sizeof temporary, "%s.%ld.%u.tmp", path, (long)getpid(),
                                atomic_fetch_add(&serial, 1u));
    if (length >= (int)sizeof temporary) return tamisi_fail(TAMIS_EIO, "cannot write %s: the name is too long", path);

    const int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return tamisi_fail(TAMIS_EIO, "cannot write %s: %s", path, strerror(errno));
    bool written = write_all(fd, head, make_head(head, type, rank, shape)) && write_all(fd, data, bytes);
    int reason = errno;
    if (close(fd) != 0 && written) { /* network file systems report a full disk here */
        written = false;
        reason = errno;
    }
    if (written && rename(temporary, path) == 0) return TAMIS_OK;
    if (written) reason = errno;
    unlink(temporary);
    return tamisi_fail(TAMIS_EIO, "cannot write %s: %s", path, strerror(reason));
}
