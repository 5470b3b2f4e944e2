/*
 * bench_peers.c: see bench_peers.h.
 */
#define _GNU_SOURCE
#include "bench_peers.h"

#include "error.h"
#include "json_read.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one line */

/* The members that a figure must have; a bit each. */
enum { BACKEND = 1, HEAD_DIM = 2, SEQ_LEN = 4, Q_HEADS = 8, KV_HEADS = 16, DTYPE = 32, CAUSAL = 64, MS = 128 };
static const char *const member_names[] = {"backend", "head_dim", "seq_len", "q_heads", "kv_heads", "dtype", "causal", "ms"};

struct figure {
    struct bench_peer peer;
    bool dense;     /* a figure of attention at all */
    unsigned found; /* members that are there, and are what they should be */
};

/* False: no integer from 1 to most. */
static bool read_count(const struct json_value *value, long long most, long long *out)
{
    double number;
    if (!json_value_number(value, &number) || number != floor(number) || number < 1 || number > (double)most) return false;
    *out = (long long)number;
    return true;
}

static bool copy_word(char *out, size_t room, const struct json_value *value)
{
    if (value->type != JSON_STRING || value->text.bytes == 0 || value->text.bytes >= room) return false;
    memcpy(out, value->text.begin, value->text.bytes);
    out[value->text.bytes] = '\0';
    return true;
}

static bool read_dtype(const struct json_value *value, tamis_dtype *out)
{
    *out = json_text_is(value->text, "fp16") ? TAMIS_FP16 : TAMIS_BF16;
    return value->type == JSON_STRING && (*out == TAMIS_FP16 || json_text_is(value->text, "bf16"));
}

static bool read_bool(const struct json_value *value, bool *out)
{
    *out = json_text_is(value->text, "true");
    return value->type == JSON_WORD && (*out || json_text_is(value->text, "false"));
}

static bool read_member(struct figure *figure, unsigned member, const struct json_value *value)
{
    struct bench_key *key = &figure->peer.key;
    long long count = 0;
    bool good = true;
    switch (member) {
    case BACKEND: return copy_word(figure->peer.backend, sizeof figure->peer.backend, value);
    case SEQ_LEN: return read_count(value, 1ll << 40, &key->seq_len);
    case DTYPE: return read_dtype(value, &key->dtype);
    case CAUSAL: return read_bool(value, &key->causal);
    case MS: return json_value_number(value, &figure->peer.ms) && figure->peer.ms > 0;
    default: good = read_count(value, INT_MAX, &count); break;
    }
    *(member == HEAD_DIM ? &key->head_dim : member == Q_HEADS ? &key->q_heads : &key->kv_heads) = (int)count;
    return good;
}

static void on_member(void *payload, struct json_text name, const struct json_value *value)
{
    struct figure *figure = payload;
    if (json_text_is(name, "what")) figure->dense = value->type == JSON_STRING && json_text_is(value->text, "dense");
    if (json_text_is(name, "layout")) copy_word(figure->peer.layout, sizeof figure->peer.layout, value);
    for (unsigned i = 0; i < sizeof member_names / sizeof *member_names; i++)
        if (json_text_is(name, member_names[i]) && read_member(figure, 1u << i, value)) figure->found |= 1u << i;
}

/* ---- files */

static tamis_status note_backend(struct bench_peers *peers, const char *backend)
{
    for (int i = 0; i < peers->backend_count; i++)
        if (strcmp(peers->backends[i], backend) == 0) return TAMIS_OK;
    if (peers->backend_count == BENCH_MAX_BACKENDS)
        return tamisi_fail(TAMIS_EINVAL, "more than %d backends: %s is one too many", BENCH_MAX_BACKENDS, backend);
    snprintf(peers->backends[peers->backend_count++], sizeof peers->backends[0], "%s", backend);
    return TAMIS_OK;
}

static tamis_status add_line(struct bench_peers *peers, const char *path, long number, const char *line)
{
    struct figure figure = {.dense = false};
    if (!json_read(line, on_member, &figure)) return tamisi_fail(TAMIS_EINVAL, "%s:%ld: no JSON object", path, number);
    if (!figure.dense) return TAMIS_OK;
    for (unsigned i = 0; i < sizeof member_names / sizeof *member_names; i++)
        if (!(figure.found >> i & 1u))
            return tamisi_fail(TAMIS_EINVAL, "%s:%ld: \"%s\" is missing or wrong", path, number, member_names[i]);
    TAMIS_TRY(note_backend(peers, figure.peer.backend));
    struct bench_peer *grown = realloc(peers->list, (peers->count + 1) * sizeof *grown);
    if (!grown) return tamisi_fail(TAMIS_ENOMEM, "out of memory for %s", path);
    peers->list = grown;
    grown[peers->count++] = figure.peer;
    return TAMIS_OK;
}

static tamis_status read_lines(struct bench_peers *peers, const char *path, FILE *file)
{
    char *line = NULL;
    size_t room = 0;
    tamis_status status = TAMIS_OK;
    long number = 1;
    errno = 0;
    for (ssize_t bytes; status == TAMIS_OK && (bytes = getline(&line, &room, file)) >= 0; number++) {
        if (strlen(line) != (size_t)bytes)
            status = tamisi_fail(TAMIS_EINVAL, "%s:%ld: no JSON object, but a zero byte", path, number);
        else if (line[strspn(line, " \t\r\n")])
            status = add_line(peers, path, number, line);
    }
    if (status == TAMIS_OK && !feof(file)) status = tamisi_fail(TAMIS_EIO, "%s: cannot read: %s", path, strerror(errno));
    free(line);
    return status;
}

tamis_status bench_peers_read(struct bench_peers *peers, const char *path)
{
    const size_t before = peers->count;
    FILE *file = fopen(path, "re");
    if (!file) return tamisi_fail(errno == ENOENT ? TAMIS_ENOTFOUND : TAMIS_EIO, "%s: %s", path, strerror(errno));
    const tamis_status status = read_lines(peers, path, file);
    fclose(file);
    if (status != TAMIS_OK) return status;
    if (peers->count > before) return TAMIS_OK;
    return tamisi_fail(TAMIS_EINVAL, "%s: no figure of dense attention in it", path);
}

void bench_peers_free(struct bench_peers *peers)
{
    free(peers->list);
    *peers = (struct bench_peers){.list = NULL};
}

/* ---- matching */

static bool same_key(const struct bench_key *a, const struct bench_key *b)
{
    return a->head_dim == b->head_dim && a->q_heads == b->q_heads && a->kv_heads == b->kv_heads &&
           a->seq_len == b->seq_len && a->dtype == b->dtype && a->causal == b->causal;
}

const struct bench_peer *bench_peers_best(const struct bench_peers *peers, const char *backend, const struct bench_key *key)
{
    const struct bench_peer *best = NULL;
    for (size_t i = 0; i < peers->count; i++) {
        const struct bench_peer *peer = &peers->list[i];
        if (strcmp(peer->backend, backend) != 0 || !same_key(&peer->key, key)) continue;
        if (!best || peer->ms < best->ms) best = peer;
    }
    return best;
}
