/*
 * hash.c: XXH3-128 from libxxhash, in canonical form.
 */
#include "hash.h"

#include <string.h>
#include <xxhash.h>

static struct tamisi_hash from_xxh(XXH128_hash_t value)
{
    XXH128_canonical_t canonical;
    struct tamisi_hash hash;
    XXH128_canonicalFromHash(&canonical, value);
    memcpy(hash.bytes, canonical.digest, sizeof hash.bytes);
    return hash;
}

struct tamisi_hash tamisi_hash_bytes(const void *data, size_t bytes) { return from_xxh(XXH3_128bits(data, bytes)); }

/* The hash of the parts' hashes in a row: each has one length, so where a part ends is never in doubt. */
struct tamisi_hash tamisi_hash_parts(const struct tamisi_hash_part *parts, size_t count)
{
    struct tamisi_hash chain = tamisi_hash_bytes(&(const char){0}, 0);
    for (size_t i = 0; i < count; i++) {
        unsigned char pair[2 * sizeof chain.bytes];
        const struct tamisi_hash part = tamisi_hash_bytes(parts[i].data ? parts[i].data : "", parts[i].bytes);
        memcpy(pair, chain.bytes, sizeof chain.bytes);
        memcpy(pair + sizeof chain.bytes, part.bytes, sizeof part.bytes);
        chain = tamisi_hash_bytes(pair, sizeof pair);
    }
    return chain;
}

bool tamisi_hash_equal(const struct tamisi_hash *a, const struct tamisi_hash *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

void tamisi_hash_hex(const struct tamisi_hash *hash, char out[TAMISI_HASH_HEX_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof hash->bytes; i++) {
        out[2 * i] = digits[hash->bytes[i] >> 4];
        out[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    out[2 * sizeof hash->bytes] = '\0';
}
