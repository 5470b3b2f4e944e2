/*
 * store_convert.c: how structs become rows of the store and back, and whether a row that was read is of a struct's form.
 *
 * Entries and resources are lists in text, as text columns hold them. Pure, as store_format.c is, which has the ids.
 * Layer: above store_format.
 */
#include "store_internal.h"

#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ----------------------------------------------------------------------------------------------- values of a row */

static void add_integer(struct tamisi_row *row, int64_t integer)
{
    row->values[row->count++] = (struct tamisi_value){.integer = integer, .data = ""};
}

static void add_real(struct tamisi_row *row, double real)
{
    row->values[row->count++] = (struct tamisi_value){.real = real, .data = ""};
}

static void add_bytes(struct tamisi_row *row, const void *data, size_t bytes)
{
    row->values[row->count++] = (struct tamisi_value){.data = bytes > 0 ? data : "", .bytes = bytes};
}

static void add_text(struct tamisi_row *row, const char *text)
{
    add_bytes(row, text, strlen(text));
}

/* --------------------------------------------------------------------------------- lists in text: "word ... number\n" */

static bool read_word(const char **at, char *out, size_t size)
{
    size_t length = strcspn(*at, " \n");

    if (length == 0 || length >= size || (*at)[length] != ' ') return false;
    memcpy(out, *at, length);
    out[length] = '\0';
    *at += length + 1;
    return true;
}

/* Numbers up to the line's end, exactly `count` of them. */
static bool read_numbers(const char **at, int *const *out, int count)
{
    for (int i = 0; i < count; i++) {
        char *end;
        long value;

        if (!isdigit((unsigned char)**at)) return false;
        value = strtol(*at, &end, 10);
        if (value > INT_MAX || *end != (i + 1 < count ? ' ' : '\n')) return false;
        *out[i] = (int)value;
        *at = end + 1;
    }
    return true;
}

static bool read_entries(struct tamisi_entry *entries, int *count, const char *text)
{
    for (*count = 0; *text != '\0'; (*count)++) {
        struct tamisi_entry *entry = &entries[*count];
        int *numbers[] = {&entry->threads, &entry->shared_bytes, &entry->block_m, &entry->block_n};

        if (*count == TAMISI_MAX_ENTRIES) return false;
        if (!read_word(&text, entry->stage, sizeof entry->stage)) return false;
        if (!read_word(&text, entry->symbol, sizeof entry->symbol)) return false;
        if (!read_numbers(&text, numbers, 4)) return false;
    }
    return *count > 0;
}

static bool read_resources(struct tamisi_resource *resources, int *count, const char *text)
{
    for (*count = 0; *text != '\0'; (*count)++) {
        struct tamisi_resource *resource = &resources[*count];
        int serialized;
        int *numbers[] = {&resource->registers,    &resource->shared_bytes, &resource->stack_bytes,
                          &resource->spill_stores, &resource->spill_loads,  &serialized};

        if (*count == TAMISI_MAX_ENTRIES) return false;
        if (!read_word(&text, resource->symbol, sizeof resource->symbol)) return false;
        if (!read_numbers(&text, numbers, 6) || serialized > 1) return false;
        resource->serialized_wgmma = serialized;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- structs and rows */

void tamisi_row_from_spec(struct tamisi_row *row, const struct tamisi_spec_row *spec)
{
    const tamis_problem *problem = &spec->problem;
    const tamis_selection *selection = &problem->selection;

    tamisi_row_init(row, TAMISI_SPECS, tamisi_spec_id(spec->name));
    add_text(row, spec->name);
    add_integer(row, problem->dtype);
    add_integer(row, problem->q_heads);
    add_integer(row, problem->kv_heads);
    add_integer(row, problem->head_dim);
    add_real(row, problem->scale);
    add_integer(row, selection->policy);
    add_integer(row, selection->scope);
    add_integer(row, selection->window);
    add_integer(row, selection->pool);
    add_integer(row, selection->min_tokens);
    add_real(row, selection->coverage);
    add_real(row, selection->ratio);
    add_integer(row, selection->count);
    add_integer(row, spec->layers);
    add_text(row, spec->sparse_layers != NULL ? spec->sparse_layers : "");
    add_text(row, spec->text != NULL ? spec->text : "");
    if (spec->pattern != NULL && *spec->pattern != '\0') add_text(row, spec->pattern);
}

void tamisi_row_to_problem(tamis_problem *out, const struct tamisi_row *row)
{
    const struct tamisi_value *value = row->values;

    *out = (tamis_problem)TAMIS_PROBLEM_INIT;
    out->dtype = (tamis_dtype)value[1].integer;
    out->q_heads = (int32_t)value[2].integer;
    out->kv_heads = (int32_t)value[3].integer;
    out->head_dim = (int32_t)value[4].integer;
    out->scale = value[5].real;
    out->selection.policy = (tamis_policy)value[6].integer;
    out->selection.scope = (tamis_scope)value[7].integer;
    out->selection.window = (int32_t)value[8].integer;
    out->selection.pool = (int32_t)value[9].integer;
    out->selection.min_tokens = value[10].integer;
    out->selection.coverage = value[11].real;
    out->selection.ratio = value[12].real;
    out->selection.count = value[13].integer;
}

void tamisi_row_from_source(struct tamisi_row *row, const struct tamisi_hash *hash, const char *name, const char *text)
{
    tamisi_row_init(row, TAMISI_SOURCES, tamisi_source_id(hash));
    add_bytes(row, hash->bytes, sizeof hash->bytes);
    add_text(row, name);
    add_text(row, text);
}

void tamisi_row_from_variant(struct tamisi_row *row, const struct tamisi_variant *variant, struct tamisi_buf *text)
{
    for (int i = 0; i < variant->entry_count; i++) {
        const struct tamisi_entry *entry = &variant->entries[i];

        tamisi_buf_printf(text, "%s %s %d %d %d %d\n", entry->stage, entry->symbol, entry->threads, entry->shared_bytes,
                          entry->block_m, entry->block_n);
    }
    tamisi_row_init(row, TAMISI_VARIANTS, tamisi_variant_id(variant));
    add_text(row, variant->spec);
    add_text(row, variant->family);
    add_text(row, variant->name);
    add_text(row, variant->arch);
    add_integer(row, variant->dtype);
    add_integer(row, variant->head_dim);
    add_integer(row, variant->rank);
    add_integer(row, variant->abi);
    add_text(row, variant->params);
    add_bytes(row, variant->source.bytes, sizeof variant->source.bytes);
    add_bytes(row, text->data, text->size);
}

static bool read_text(char *out, size_t size, const struct tamisi_value *value)
{
    if (value->bytes >= size) return false;
    memcpy(out, value->data, value->bytes + 1);
    return true;
}

bool tamisi_row_to_variant(struct tamisi_variant *out, const struct tamisi_row *row)
{
    const struct tamisi_value *value = row->values;

    memset(out, 0, sizeof *out);
    out->dtype = (int)value[4].integer;
    out->head_dim = (int)value[5].integer;
    out->rank = (int)value[6].integer;
    out->abi = (int)value[7].integer;
    memcpy(out->source.bytes, value[9].data, sizeof out->source.bytes);
    return read_text(out->spec, sizeof out->spec, &value[0]) && read_text(out->family, sizeof out->family, &value[1]) &&
           read_text(out->name, sizeof out->name, &value[2]) && read_text(out->arch, sizeof out->arch, &value[3]) &&
           read_text(out->params, sizeof out->params, &value[8]) &&
           read_entries(out->entries, &out->entry_count, value[10].data);
}

void tamisi_row_from_cubin(struct tamisi_row *row, const struct tamisi_hash *source, const char *arch,
                           const char *options, const char *nvrtc, const struct tamisi_compiled *compiled,
                           struct tamisi_buf *text)
{
    for (int i = 0; i < compiled->resource_count; i++) {
        const struct tamisi_resource *resource = &compiled->resources[i];

        tamisi_buf_printf(text, "%s %d %d %d %d %d %d\n", resource->symbol, resource->registers, resource->shared_bytes,
                          resource->stack_bytes, resource->spill_stores, resource->spill_loads, resource->serialized_wgmma);
    }
    tamisi_row_init(row, TAMISI_CUBINS, tamisi_cubin_range(source, arch, options).first);
    add_bytes(row, source->bytes, sizeof source->bytes);
    add_text(row, arch);
    add_text(row, options);
    add_text(row, nvrtc);
    add_bytes(row, text->data, text->size);
    add_bytes(row, compiled->cubin, compiled->cubin_bytes);
}

bool tamisi_row_to_cubin(struct tamisi_cubin *out, const struct tamisi_row *row)
{
    const struct tamisi_value *value = row->values;

    memset(out, 0, sizeof *out);
    out->bytes = value[TAMISI_CUBIN_DATA].bytes;
    return out->bytes > 0 && read_text(out->nvrtc, sizeof out->nvrtc, &value[TAMISI_CUBIN_NVRTC]) &&
           read_resources(out->resources, &out->resource_count, value[TAMISI_CUBIN_RESOURCES].data);
}

void tamisi_row_from_timing(struct tamisi_row *row, const struct tamisi_timing *timing)
{
    const struct tamisi_bucket *bucket = &timing->bucket;
    const struct tamisi_gpu_identity *gpu = &timing->gpu;

    tamisi_row_init(row, TAMISI_TIMINGS, tamisi_timing_id(timing));
    add_bytes(row, timing->source.bytes, sizeof timing->source.bytes);
    add_text(row, timing->family);
    add_text(row, timing->variant);
    add_text(row, timing->arch);
    add_integer(row, bucket->dtype);
    add_integer(row, bucket->head_dim);
    add_integer(row, bucket->q_heads);
    add_integer(row, bucket->kv_heads);
    add_integer(row, bucket->batch);
    add_integer(row, bucket->seq_len);
    add_integer(row, bucket->kept);
    add_integer(row, bucket->dense);
    add_integer(row, tamisi_timing_scope(timing));
    add_integer(row, tamisi_timing_window(timing));
    add_integer(row, gpu->cc);
    add_integer(row, gpu->sm_count);
    add_integer(row, gpu->l2_bytes);
    add_integer(row, gpu->driver_major);
    add_text(row, gpu->name);
    add_integer(row, timing->state);
    add_integer(row, timing->rigor);
    add_integer(row, timing->rounds);
    add_integer(row, timing->dropped);
    add_integer(row, timing->sm_mhz);
    add_real(row, timing->median_us);
    add_real(row, timing->mad_us);
    add_real(row, timing->cold_us);
    add_real(row, timing->warm_us);
    add_integer(row, timing->when);
    add_text(row, timing->note);
}

bool tamisi_row_to_timing(struct tamisi_timing *out, const struct tamisi_row *row)
{
    const struct tamisi_value *value = row->values;
    const bool lists = tamisi_family_has_lists(value[1].data);

    *out = (struct tamisi_timing){.bucket = {.dtype = (int)value[4].integer,
                                             .head_dim = (int)value[5].integer,
                                             .q_heads = (int)value[6].integer,
                                             .kv_heads = (int)value[7].integer,
                                             .batch = (int)value[8].integer,
                                             .seq_len = value[9].integer,
                                             .kept = value[10].integer,
                                             .dense = value[11].integer != 0,
                                             .scope = lists ? 0 : (int)value[12].integer,
                                             .window = lists ? 0 : (int)value[13].integer,
                                             .pattern = lists ? (int)value[12].integer : 0,
                                             .detail = lists ? (int)value[13].integer : 0},
                                  .gpu = {.cc = (int)value[14].integer,
                                          .sm_count = (int)value[15].integer,
                                          .l2_bytes = value[16].integer,
                                          .driver_major = (int)value[17].integer},
                                  .state = (enum tamisi_timing_state)value[19].integer,
                                  .rigor = (enum tamisi_rigor)value[20].integer,
                                  .rounds = (int)value[21].integer,
                                  .dropped = (int)value[22].integer,
                                  .sm_mhz = (int)value[23].integer,
                                  .median_us = value[24].real,
                                  .mad_us = value[25].real,
                                  .cold_us = value[26].real,
                                  .warm_us = value[27].real,
                                  .when = value[28].integer};
    memcpy(out->source.bytes, value[TAMISI_TIMING_SOURCE].data, sizeof out->source.bytes);
    return value[19].integer >= 0 && value[19].integer < TAMISI_TIMING_STATES && value[20].integer >= TAMISI_QUICK &&
           value[20].integer <= TAMISI_EXHAUSTIVE && read_text(out->family, sizeof out->family, &value[1]) &&
           read_text(out->variant, sizeof out->variant, &value[TAMISI_TIMING_VARIANT]) &&
           read_text(out->arch, sizeof out->arch, &value[TAMISI_TIMING_ARCH]) &&
           read_text(out->gpu.name, sizeof out->gpu.name, &value[18]) &&
           read_text(out->note, sizeof out->note, &value[29]);
}

/* ------------------------------------------------------------------------------------------------- judging rows */

static bool problem_in_range(const struct tamisi_row *row)
{
    const struct tamisi_value *value = row->values;

    return value[1].integer >= TAMIS_BF16 && value[1].integer <= TAMIS_FP16 && value[6].integer >= TAMIS_DENSE &&
           value[6].integer <= TAMIS_COUNT && value[7].integer >= TAMIS_SCOPE_HEAD && value[7].integer <= TAMIS_SCOPE_LAYER;
}

bool tamisi_row_well_formed(const struct tamisi_row *row)
{
    const char *kinds = tamisi_table_info(row->table)->kinds;
    struct tamisi_variant variant;
    struct tamisi_cubin cubin;
    struct tamisi_timing timing;

    for (int i = 0; i < row->count; i++) {
        const struct tamisi_value *value = &row->values[i];

        switch (kinds[i]) {
        case 'n':
            if (value->integer < INT_MIN || value->integer > INT_MAX) return false;
            break;
        case 'h':
            if (value->bytes != sizeof(struct tamisi_hash)) return false;
            break;
        case 't':
            if (strlen(value->data) != value->bytes) return false;
            break;
        default:
            break;
        }
    }
    switch (row->table) {
    case TAMISI_SPECS:
        return problem_in_range(row);
    case TAMISI_VARIANTS:
        return tamisi_row_to_variant(&variant, row);
    case TAMISI_CUBINS:
        return tamisi_row_to_cubin(&cubin, row);
    case TAMISI_TIMINGS:
        return tamisi_row_to_timing(&timing, row);
    case TAMISI_SOURCES:
    case TAMISI_TABLES:
        break;
    }
    return true;
}
