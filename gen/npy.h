/*
 * npy.h: NumPy .npy files, versions 1.0 to 3.0, C order, little-endian. Trusts nothing in the header: the shape must match
 * the file's size exactly.
 */
#ifndef NPY_H
#define NPY_H

#include "tamis.h"

#include <stddef.h>

#define NPY_MAX_RANK 6

enum npy_type { NPY_U16, NPY_F16, NPY_F32, NPY_I32, NPY_F64 }; /* <u2 <f2 <f4 <i4 <f8 */

struct npy {
    enum npy_type type;
    int rank;
    long long shape[NPY_MAX_RANK];
    size_t bytes; /* of data */
    void *data;   /* owned, 64-byte aligned */
};

/* TAMIS_ENOTFOUND, TAMIS_EIO, TAMIS_EINVAL ("q.npy: what is wrong, what would be right"), TAMIS_ENOMEM. */
tamis_status npy_read(struct npy *out, const char *path);
tamis_status npy_parse(struct npy *out, const char *name, const void *file, size_t bytes);
/* Written beside and renamed, so that a reader never sees half a file. */
tamis_status npy_write(const char *path, enum npy_type type, int rank, const long long *shape, const void *data);
void npy_free(struct npy *npy);
size_t npy_type_bytes(enum npy_type type);
const char *npy_type_name(enum npy_type type); /* "uint16" */

#endif
