/*
 * store_format.c: what a row of the store is: its table's columns, its id, its checksum, and what it is called in messages.
 *
 * Pure: no SQL runs here and no file is touched. Columns have no declared type, so that SQLite keeps every value exactly as
 * it was bound, and a value of another type is damage. Layer: the store's lowest; see store_internal.h.
 */
#include "store_internal.h"

#include <stdio.h>
#include <string.h>

static const struct tamisi_table_info tables[TAMISI_TABLES] = {
    [TAMISI_SPECS] = {"spec", "tnnnnrnnnnirrinttt",
                      "CREATE TABLE spec(id INTEGER PRIMARY KEY, checksum, name, dtype, q_heads, kv_heads, head_dim, scale, "
                      "policy, scope, window, pool, min_tokens, coverage, ratio, count, layers, sparse_layers, text)",
                      "pattern"},
    [TAMISI_SOURCES] = {"source", "htt", "CREATE TABLE source(id INTEGER PRIMARY KEY, checksum, hash, name, text)", NULL},
    [TAMISI_VARIANTS] = {"variant", "ttttnnnntht",
                         "CREATE TABLE variant(id INTEGER PRIMARY KEY, checksum, spec, family, name, arch, dtype, head_dim, "
                         "rank, abi, params, source, entries)",
                         NULL},
    [TAMISI_CUBINS] = {"cubin", "httttb",
                       "CREATE TABLE cubin(id INTEGER PRIMARY KEY, checksum, source, arch, options, nvrtc, resources, "
                       "data)",
                       NULL},
    [TAMISI_TIMINGS] = {"timing", "htttnnnnniinnnnnintnnnnnrrrrit",
                        "CREATE TABLE timing(id INTEGER PRIMARY KEY, checksum, source, family, variant, arch, dtype, "
                        "head_dim, q_heads, kv_heads, batch, seq_len, kept, dense, scope, window, cc, sm_count, l2_bytes, "
                        "driver, gpu, state, rigor, rounds, dropped, sm_mhz, median_us, mad_us, cold_us, warm_us, "
                        "measured, note)",
                        NULL},
};

const struct tamisi_table_info *tamisi_table_info(enum tamisi_table table)
{
    return &tables[table];
}

int tamisi_table_format(enum tamisi_table table)
{
    return table == TAMISI_TIMINGS ? 2 : 1;
}

int tamisi_table_columns(enum tamisi_table table, int format)
{
    const bool lacks = tables[table].added != NULL && format < TAMISI_STORE_FORMAT;

    return (int)strlen(tables[table].kinds) - lacks;
}

/* ALTER TABLE has put ", name" before the closing parenthesis. */
bool tamisi_table_is(enum tamisi_table table, int format, const char *sql)
{
    const struct tamisi_table_info *info = &tables[table];
    const size_t length = strlen(info->create) - 1;
    char end[32] = ")";

    if (info->added != NULL && format >= TAMISI_STORE_FORMAT) snprintf(end, sizeof end, ", %s)", info->added);
    return sql != NULL && strncmp(sql, info->create, length) == 0 && strcmp(sql + length, end) == 0;
}

/* -------------------------------------------------------------------------------------- rows and their checksums */

void tamisi_row_init(struct tamisi_row *row, enum tamisi_table table, int64_t id)
{
    memset(row, 0, sizeof *row);
    row->table = table;
    row->id = id;
    row->intact = true;
}

static void put_integer(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(value >> (56 - 8 * i));
}

/* Over the table's name, the id, and for each column its kind with the integer, the real's bits or the bytes. */
struct tamisi_hash tamisi_row_checksum(const struct tamisi_row *row)
{
    const struct tamisi_table_info *info = &tables[row->table];
    unsigned char fixed[8 + 9 * TAMISI_STORE_COLUMNS];
    struct tamisi_hash_part parts[2 + TAMISI_STORE_COLUMNS];
    size_t fixed_bytes = 8, part_count = 2;

    put_integer(fixed, (uint64_t)row->id);
    for (int i = 0; i < row->count; i++) {
        const struct tamisi_value *value = &row->values[i];
        uint64_t word = (uint64_t)value->integer;

        if (info->kinds[i] == 'r') memcpy(&word, &value->real, sizeof word);
        fixed[fixed_bytes] = (unsigned char)info->kinds[i];
        put_integer(fixed + fixed_bytes + 1, word);
        fixed_bytes += 9;
        parts[part_count++] = (struct tamisi_hash_part){value->data, value->bytes};
    }
    parts[0] = (struct tamisi_hash_part){info->name, strlen(info->name)};
    parts[1] = (struct tamisi_hash_part){fixed, fixed_bytes};
    return tamisi_hash_parts(parts, part_count);
}

bool tamisi_row_agree(const struct tamisi_row *a, const struct tamisi_row *b, int values)
{
    if (a->count != b->count && (values >= a->count || values >= b->count)) return false;
    for (int i = 0; i < values; i++) {
        const struct tamisi_value *x = &a->values[i], *y = &b->values[i];

        if (x->integer != y->integer || memcmp(&x->real, &y->real, sizeof x->real) != 0) return false;
        if (x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0) return false;
    }
    return true;
}

/* ----------------------------------------------------------------------------------------------------------- ids */

static int64_t make_id(enum tamisi_table table, const struct tamisi_hash_part *key, size_t count)
{
    struct tamisi_hash_part parts[8] = {{tables[table].name, strlen(tables[table].name)}};
    struct tamisi_hash hash;
    uint64_t id = 0;

    memcpy(parts + 1, key, count * sizeof *key);
    hash = tamisi_hash_parts(parts, count + 1);
    for (int i = 0; i < 8; i++) id = id << 8 | hash.bytes[i];
    return (int64_t)(id >> 1); /* never negative, so that a range's end does not overflow */
}

static int64_t make_block(enum tamisi_table table, const struct tamisi_hash_part *key, size_t count)
{
    return make_id(table, key, count) >> 48 << 48;
}

static int64_t in_block(int64_t block, int64_t id)
{
    return block + (id & (((int64_t)1 << 48) - 1));
}

int64_t tamisi_spec_id(const char *name)
{
    return make_id(TAMISI_SPECS, &(struct tamisi_hash_part){name, strlen(name)}, 1);
}

int64_t tamisi_source_id(const struct tamisi_hash *hash)
{
    return make_id(TAMISI_SOURCES, &(struct tamisi_hash_part){hash->bytes, sizeof hash->bytes}, 1);
}

/* What a plan asks for, a family's variants for an architecture, lies together: the high bits come from these two. */
struct tamisi_range tamisi_variant_range(const char *family, const char *arch)
{
    struct tamisi_hash_part key[] = {{family, strlen(family)}, {arch, strlen(arch)}};
    int64_t first = make_block(TAMISI_VARIANTS, key, 2);

    return (struct tamisi_range){first, in_block(first, -1)};
}

int64_t tamisi_variant_id(const struct tamisi_variant *variant)
{
    struct tamisi_range range = tamisi_variant_range(variant->family, variant->arch);
    unsigned char numbers[16];
    struct tamisi_hash_part key[] = {{variant->spec, strlen(variant->spec)},
                                     {variant->name, strlen(variant->name)},
                                     {numbers, sizeof numbers}};

    put_integer(numbers, (uint64_t)variant->dtype);
    put_integer(numbers + 8, (uint64_t)variant->head_dim);
    return in_block(range.first, make_id(TAMISI_VARIANTS, key, 3));
}

/* The compiler is not in the id: its cubins take the range's slots in the order they come, the newest highest. */
struct tamisi_range tamisi_cubin_range(const struct tamisi_hash *source, const char *arch, const char *options)
{
    struct tamisi_hash_part key[] = {{source->bytes, sizeof source->bytes},
                                     {arch, strlen(arch)},
                                     {options, strlen(options)}};
    int64_t first = make_id(TAMISI_CUBINS, key, 3) / TAMISI_STORE_SLOTS * TAMISI_STORE_SLOTS;

    return (struct tamisi_range){first, first + TAMISI_STORE_SLOTS - 1};
}

struct tamisi_range tamisi_timing_range(const char *family, const char *arch, int head_dim, int cc)
{
    unsigned char numbers[16];
    struct tamisi_hash_part key[] = {{family, strlen(family)}, {arch, strlen(arch)}, {numbers, sizeof numbers}};
    int64_t first;

    put_integer(numbers, (uint64_t)head_dim);
    put_integer(numbers + 8, (uint64_t)cc);
    first = make_block(TAMISI_TIMINGS, key, 3);
    return (struct tamisi_range){first, in_block(first, -1)};
}

int64_t tamisi_timing_scope(const struct tamisi_timing *timing)
{
    return tamisi_family_has_lists(timing->family) ? timing->bucket.pattern : timing->bucket.scope;
}

int64_t tamisi_timing_window(const struct tamisi_timing *timing)
{
    return tamisi_family_has_lists(timing->family) ? timing->bucket.detail : timing->bucket.window;
}

/* A journal row has an id of its own, so that it stands beside the result of an earlier run. */
int64_t tamisi_timing_id(const struct tamisi_timing *timing)
{
    const struct tamisi_bucket *bucket = &timing->bucket;
    const struct tamisi_gpu_identity *gpu = &timing->gpu;
    const int64_t values[] = {bucket->dtype, bucket->q_heads, bucket->kv_heads, bucket->batch, bucket->seq_len, bucket->kept,
                              bucket->dense, tamisi_timing_scope(timing), tamisi_timing_window(timing), gpu->sm_count,
                              gpu->l2_bytes, gpu->driver_major, timing->state == TAMISI_STARTED};
    unsigned char numbers[8 * sizeof values / sizeof *values];
    struct tamisi_hash_part key[] = {{timing->source.bytes, sizeof timing->source.bytes}, {numbers, sizeof numbers}};

    for (size_t i = 0; i < sizeof values / sizeof *values; i++) put_integer(numbers + 8 * i, (uint64_t)values[i]);
    return in_block(tamisi_timing_range(timing->family, timing->arch, bucket->head_dim, gpu->cc).first,
                    make_id(TAMISI_TIMINGS, key, 2));
}

/* -------------------------------------------------------------------------------------------------------- labels */

/* A spec's, source's or variant's name; a cubin's first kernel; the variant that was timed. */
void tamisi_row_label(const struct tamisi_row *row, char *out, size_t size)
{
    static const int places[TAMISI_TABLES] = {TAMISI_SPEC_NAME, TAMISI_SOURCE_NAME, TAMISI_VARIANT_NAME,
                                              TAMISI_CUBIN_RESOURCES, TAMISI_TIMING_VARIANT};
    const struct tamisi_value *value = &row->values[places[row->table]];
    size_t length = row->table == TAMISI_CUBINS ? strcspn(value->data, " ") : value->bytes;

    if (length >= size) length = size - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)value->data[i];

        out[i] = byte >= ' ' && byte < 0x7f ? (char)byte : '?';
    }
    out[length] = '\0';
}
