/*
 * bench_peers.h: figures of other attention kernels, as examples/bench/peers.py prints them, and which of them is to be set
 * beside one of ours. Pure but for reading files. Layer: above json_read, below the bench's table.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

/* What makes two figures comparable. */
struct bench_key {
    int head_dim;
    int q_heads, kv_heads;
    long long seq_len;
    tamis_dtype dtype;
    bool causal;
};

struct bench_peer {
    char backend[16]; /* "cudnn", "fa2" */
    char layout[16];  /* "head", "token": which dimension of heads and tokens is the outer one; "" if not said */
    struct bench_key key;
    double ms;
};

#define BENCH_MAX_BACKENDS 4

struct bench_peers {
    struct bench_peer *list;
    size_t count;
    char backends[BENCH_MAX_BACKENDS][16]; /* in the order they were met */
    int backend_count;
};

/*
 * Add a file's figures: an object a line. Those whose "what" is "dense" must have all of backend, head_dim, seq_len, q_heads,
 * kv_heads, dtype, causal and ms; others are passed over. TAMIS_ENOTFOUND, TAMIS_EIO, TAMIS_ENOMEM; TAMIS_EINVAL with
 * "file:line: what is wrong", or where there is no figure at all. Zeros are an empty set.
 */
tamis_status bench_peers_read(struct bench_peers *peers, const char *path);
void bench_peers_free(struct bench_peers *peers);

/* The fastest figure of a backend for a problem, whatever the layout and however often it was timed; NULL: none. */
const struct bench_peer *bench_peers_best(const struct bench_peers *peers, const char *backend, const struct bench_key *key);

#endif
