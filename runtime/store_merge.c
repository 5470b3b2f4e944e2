/*
 * store_merge.c: the union of stores: every intact row of one put into another, by the keys that rows have anyway.
 *
 * A spec and its variants go together. Where two stores have a spec of one name and other content, the variants of the one
 * that loses were expanded from a text that will not be there, so they stay out too. Sources and cubins are keyed by
 * content and cannot conflict; of two timings the one that supersedes the other stays, whichever came first. What a tuner
 * has begun elsewhere is its own matter: journal rows stay out. Layer: above store, beside store_rows.
 */
#include "store_internal.h"

#include <stdlib.h>
#include <string.h>

struct union_state {
    tamis_store *into;
    struct tamisi_merge *merge;
    struct tamisi_ids lost; /* ids of specs that `into` has otherwise and keeps */
    tamis_status status;
};

/* ------------------------------------------------------------------------------------------------- what is there */

enum presence { ABSENT, SAME, OTHER };

struct presence_search {
    const struct tamisi_row *wanted;
    int keys;
    enum presence presence;
};

static bool visit_present(void *payload, const struct tamisi_row *row)
{
    struct presence_search *search = payload;

    search->presence = tamisi_row_agree(row, search->wanted, search->keys) ? SAME : OTHER;
    return search->presence == SAME;
}

static tamis_status find_presence(enum presence *out, tamis_store *store, const struct tamisi_row *row,
                                  struct tamisi_range range, int keys)
{
    struct presence_search search = {row, keys, ABSENT};

    TAMIS_TRY(tamisi_table_scan(store, row->table, range, 0, visit_present, &search));
    *out = search.presence;
    return TAMIS_OK;
}

static bool is_lost(const struct union_state *state, const char *spec)
{
    const int64_t id = tamisi_spec_id(spec);

    for (size_t i = 0; i < state->lost.count; i++)
        if (state->lost.ids[i] == id) return true;
    return false;
}

/* ------------------------------------------------------------------------------------------------------ one row */

static tamis_status put(struct union_state *state, const struct tamisi_row *row, struct tamisi_range range, int keys)
{
    struct tamisi_row copy = *row; /* which is given the id that is free */

    TAMIS_TRY(tamisi_table_put(state->into, &copy, range, keys));
    state->merge->added++;
    return TAMIS_OK;
}

static void report(struct tamisi_merge *merge, const struct tamisi_row *row)
{
    struct tamisi_store_conflict conflict = {.kind = tamisi_table_info(row->table)->name,
                                             .spec = row->values[TAMISI_SPEC_NAME].data};

    if (row->table == TAMISI_VARIANTS) {
        conflict.spec = row->values[TAMISI_VARIANT_SPEC].data;
        conflict.variant = row->values[TAMISI_VARIANT_NAME].data;
        conflict.arch = row->values[TAMISI_VARIANT_ARCH].data;
    }
    merge->conflicts++;
    if (merge->report != NULL) merge->report(merge->payload, &conflict);
}

/* The same key with other content, of a spec or a variant. */
static tamis_status settle(struct union_state *state, const struct tamisi_row *row)
{
    report(state->merge, row);
    if (state->merge->prefer_last) {
        if (row->table == TAMISI_SPECS)
            TAMIS_TRY(tamisi_store_drop_variants(state->into, row->values[TAMISI_SPEC_NAME].data, NULL));
        return put(state, row, (struct tamisi_range){row->id, row->id}, row->count);
    }
    if (row->table == TAMISI_SPECS) tamisi_ids_add(&state->lost, row->id);
    state->merge->left_out++;
    return state->lost.failed ? tamisi_fail(TAMIS_ENOMEM, "out of memory") : TAMIS_OK;
}

/* Of timings there is no conflict: put_timing() knows which of two stays. */
static tamis_status add_timing(struct union_state *state, const struct tamisi_row *row)
{
    struct tamisi_timing timing;
    enum presence presence;

    if (!tamisi_row_to_timing(&timing, row) || timing.state == TAMISI_STARTED) return TAMIS_OK;
    TAMIS_TRY(find_presence(&presence, state->into, row, (struct tamisi_range){row->id, row->id}, row->count));
    if (presence == SAME) {
        state->merge->kept++;
        return TAMIS_OK;
    }
    TAMIS_TRY(tamisi_store_put_timing(state->into, &timing));
    state->merge->added++;
    return TAMIS_OK;
}

static tamis_status add_row(struct union_state *state, const struct tamisi_row *row)
{
    struct tamisi_range range = {row->id, row->id};
    enum presence presence;
    int keys = row->count;

    if (row->table == TAMISI_TIMINGS) return add_timing(state, row);
    if (row->table == TAMISI_SOURCES) keys = TAMISI_SOURCE_HASH + 1;
    if (row->table == TAMISI_CUBINS) {
        struct tamisi_hash source;

        memcpy(source.bytes, row->values[TAMISI_CUBIN_SOURCE].data, sizeof source.bytes);
        range = tamisi_cubin_range(&source, row->values[TAMISI_CUBIN_ARCH].data, row->values[TAMISI_CUBIN_OPTIONS].data);
        keys = TAMISI_CUBIN_KEYS;
    }
    if (row->table == TAMISI_VARIANTS && is_lost(state, row->values[TAMISI_VARIANT_SPEC].data)) {
        state->merge->left_out++;
        return TAMIS_OK;
    }
    TAMIS_TRY(find_presence(&presence, state->into, row, range, keys));
    if (presence == SAME) {
        state->merge->kept++;
        return TAMIS_OK;
    }
    if (presence == OTHER && row->table != TAMISI_CUBINS) return settle(state, row);
    return put(state, row, range, keys);
}

static bool visit_row(void *payload, const struct tamisi_row *row)
{
    struct union_state *state = payload;

    if (row->intact) state->status = add_row(state, row);
    else state->merge->damaged++;
    return state->status != TAMIS_OK;
}

/* --------------------------------------------------------------------------------------------------- whole stores */

static tamis_status add_tables(struct union_state *state, tamis_store *from)
{
    static const enum tamisi_table order[] = {TAMISI_SPECS, TAMISI_VARIANTS, TAMISI_SOURCES, TAMISI_CUBINS,
                                               TAMISI_TIMINGS};

    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        TAMIS_TRY(tamisi_table_scan(from, order[i], TAMISI_RANGE_ALL, TAMISI_SCAN_DAMAGED, visit_row, state));
        TAMIS_TRY(state->status);
    }
    return TAMIS_OK;
}

/* Each put joins the transaction that is open, so it must be one of tamisi_store_begin. */
static tamis_status add_at_once(struct union_state *state, tamis_store *from)
{
    const bool own = !state->into->in_transaction;
    tamis_status status;

    if (own) TAMIS_TRY(tamisi_store_begin(state->into));
    status = add_tables(state, from);
    if (!own) return status;
    if (status == TAMIS_OK) return tamisi_store_commit(state->into);
    tamisi_store_rollback(state->into);
    return status;
}

tamis_status tamisi_store_merge(tamis_store *into, tamis_store *from, struct tamisi_merge *merge)
{
    struct union_state state = {into, merge, {NULL, 0, 0, false}, TAMIS_OK};
    tamis_status status;

    tamisi_store_lock(into);
    tamisi_store_lock(from);
    status = add_at_once(&state, from);
    merge->torn = merge->torn || from->broken != 0 || from->cut_short;
    tamisi_store_unlock(from);
    tamisi_store_unlock(into);
    tamisi_ids_free(&state.lost);
    return status;
}
