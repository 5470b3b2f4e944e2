/*
 * hash.h: 128-bit content hash (XXH3). Lowest layer. Keys and checksums against accidents, not against forgery: whoever
 * can change a store can change the kernels in it.
 */
#ifndef TAMISI_HASH_H
#define TAMISI_HASH_H

#include <stdbool.h>
#include <stddef.h>

struct tamisi_hash {
    unsigned char bytes[16]; /* canonical (big-endian) form */
};

#define TAMISI_HASH_HEX_SIZE 33 /* 32 digits and the terminating zero */

struct tamisi_hash tamisi_hash_bytes(const void *data, size_t bytes);

/* Hash of several parts; each part's length enters too, so that ("ab","c") differs from ("a","bc"). */
struct tamisi_hash_part {
    const void *data;
    size_t bytes;
};
struct tamisi_hash tamisi_hash_parts(const struct tamisi_hash_part *parts, size_t count);

bool tamisi_hash_equal(const struct tamisi_hash *a, const struct tamisi_hash *b);
void tamisi_hash_hex(const struct tamisi_hash *hash, char out[TAMISI_HASH_HEX_SIZE]);

#endif
