/*
 * store_timings.c: timings, put and found. What follows from them is choice.c's matter. Layer: above store, beside
 * store_kernels.
 */
#include "store_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ENDS(array) (memchr(array, '\0', sizeof(array)) != NULL)

static tamis_status check_timing(const struct tamisi_timing *timing, const struct tamisi_row *row)
{
    if (!ENDS(timing->family) || !ENDS(timing->arch) || !ENDS(timing->gpu.name) || !ENDS(timing->variant) ||
        !ENDS(timing->note))
        return tamisi_fail(TAMIS_EINVAL, "timing: a text is too long");
    if (!isfinite(timing->median_us) || !isfinite(timing->mad_us) || !isfinite(timing->cold_us) ||
        !isfinite(timing->warm_us) || !tamisi_row_well_formed(row))
        return tamisi_fail(TAMIS_EINVAL, "timing of %s: a number is none, or its state is", timing->variant);
    return TAMIS_OK;
}

struct rival {
    const struct tamisi_timing *timing;
    bool stays; /* what is there is not superseded */
};

static bool visit_rival(void *payload, const struct tamisi_row *row)
{
    struct rival *rival = payload;
    struct tamisi_timing there;

    if (tamisi_row_to_timing(&there, row) && tamisi_timing_same_key(&there, rival->timing))
        rival->stays = !tamisi_timing_supersedes(rival->timing, &there);
    return false;
}

static tamis_status put_row(tamis_store *store, struct tamisi_row *row, const struct tamisi_timing *timing)
{
    struct tamisi_range range = {row->id, row->id};
    struct rival rival = {timing, false};

    TAMIS_TRY(tamisi_store_upgrade(store, tamisi_table_format(TAMISI_TIMINGS)));
    TAMIS_TRY(tamisi_table_scan(store, TAMISI_TIMINGS, range, 0, visit_rival, &rival));
    return rival.stays ? TAMIS_OK : tamisi_table_put(store, row, range, row->count);
}

tamis_status tamisi_store_put_timing(tamis_store *store, const struct tamisi_timing *timing)
{
    struct tamisi_row row;
    tamis_status status;
    bool own;

    tamisi_row_from_timing(&row, timing);
    TAMIS_TRY(check_timing(timing, &row));
    tamisi_store_lock(store);
    own = !store->in_transaction;
    status = own ? tamisi_store_begin(store) : TAMIS_OK;
    if (status == TAMIS_OK) {
        status = put_row(store, &row, timing);
        if (own && status == TAMIS_OK) status = tamisi_store_commit(store);
        if (own && status != TAMIS_OK) tamisi_store_rollback(store);
    }
    tamisi_store_unlock(store);
    return status;
}

tamis_status tamisi_store_end_timing(tamis_store *store, const struct tamisi_timing *timing)
{
    struct tamisi_timing started = *timing;
    struct tamisi_row row;
    tamis_status status;
    bool own;

    started.state = TAMISI_STARTED;
    tamisi_row_from_timing(&row, &started);
    tamisi_store_lock(store);
    status = tamisi_write_enter(store, &own);
    if (status == TAMIS_OK && tamisi_table_exists(store, TAMISI_TIMINGS))
        status = tamisi_table_delete(store, TAMISI_TIMINGS, &row.id, 1, NULL);
    status = tamisi_write_leave(store, own, status);
    tamisi_store_unlock(store);
    return status;
}

/* ------------------------------------------------------------------------------------------------------ finding */

struct timing_search {
    const char *family;
    const char *arch;
    int head_dim, cc;
    struct tamisi_timing *timings;
    size_t count, capacity;
    bool failed;
};

static bool visit_timing(void *payload, const struct tamisi_row *row)
{
    struct timing_search *search = payload;
    struct tamisi_timing timing;

    if (!tamisi_row_to_timing(&timing, row) || strcmp(timing.family, search->family) != 0 ||
        strcmp(timing.arch, search->arch) != 0 || timing.bucket.head_dim != search->head_dim || timing.gpu.cc != search->cc)
        return false;
    if (search->count == search->capacity) {
        size_t capacity = search->capacity > 0 ? 2 * search->capacity : 64;
        struct tamisi_timing *timings = realloc(search->timings, capacity * sizeof *timings);

        search->failed = timings == NULL;
        if (search->failed) return true;
        search->timings = timings;
        search->capacity = capacity;
    }
    search->timings[search->count++] = timing;
    return false;
}

static tamis_status search_timings(struct timing_search *search, tamis_store *store)
{
    struct tamisi_range range = tamisi_timing_range(search->family, search->arch, search->head_dim, search->cc);
    tamis_status status = tamisi_table_scan(store, TAMISI_TIMINGS, range, 0, visit_timing, search);

    if (status == TAMIS_OK && search->failed) status = tamisi_fail(TAMIS_ENOMEM, "out of memory");
    if (status != TAMIS_OK) free(search->timings);
    return status;
}

/* ------------------------------------------------------------------------------------------------------ keeping */

void tamisi_timings_forget(tamis_store *store)
{
    for (int i = 0; i < TAMISI_STORE_KEPT; i++) {
        free(store->kept[i].timings);
        store->kept[i].timings = NULL;
    }
}

/* Another number after each commit of another handle, in whichever process. What this one writes it forgets by itself. */
static int64_t file_version(tamis_store *store)
{
    sqlite3_stmt *statement = NULL;
    int64_t version = -1;

    if (sqlite3_prepare_v2(store->db, "PRAGMA data_version", -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        version = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return version;
}

static const struct tamisi_kept_timings *find_kept(tamis_store *store, const struct timing_search *wanted)
{
    for (int i = 0; i < TAMISI_STORE_KEPT; i++) {
        const struct tamisi_kept_timings *kept = &store->kept[i];

        if (kept->timings != NULL && strcmp(kept->family, wanted->family) == 0 && strcmp(kept->arch, wanted->arch) == 0 &&
            kept->head_dim == wanted->head_dim && kept->cc == wanted->cc)
            return kept;
    }
    return NULL;
}

/* An array of none is kept too, as one of room for one. NULL: no memory. */
static struct tamisi_timing *copy_timings(const struct tamisi_timing *timings, size_t count)
{
    struct tamisi_timing *copy = malloc((count > 0 ? count : 1) * sizeof *copy);

    if (copy != NULL && count > 0) memcpy(copy, timings, count * sizeof *copy);
    return copy;
}

static void keep(tamis_store *store, const struct timing_search *found)
{
    struct tamisi_kept_timings *kept = &store->kept[store->kept_next++ % TAMISI_STORE_KEPT];

    if (strlen(found->family) >= sizeof kept->family || strlen(found->arch) >= sizeof kept->arch) return;
    free(kept->timings);
    *kept = (struct tamisi_kept_timings){.head_dim = found->head_dim, .cc = found->cc, .count = found->count};
    memcpy(kept->family, found->family, strlen(found->family) + 1);
    memcpy(kept->arch, found->arch, strlen(found->arch) + 1);
    kept->timings = copy_timings(found->timings, found->count);
}

/* From those kept, if the file is as it was; inside a transaction, which may be undone, always from the file. */
static tamis_status find_timings(struct timing_search *search, tamis_store *store)
{
    const struct tamisi_kept_timings *kept;
    int64_t version;

    if (store->in_transaction) return search_timings(search, store);
    version = file_version(store);
    if (version != store->kept_version) tamisi_timings_forget(store);
    store->kept_version = version;
    kept = find_kept(store, search);
    if (kept == NULL) {
        TAMIS_TRY(search_timings(search, store));
        keep(store, search);
        return TAMIS_OK;
    }
    search->timings = copy_timings(kept->timings, kept->count);
    search->count = kept->count;
    return search->timings != NULL ? TAMIS_OK : tamisi_fail(TAMIS_ENOMEM, "out of memory");
}

tamis_status tamisi_store_find_timings(struct tamisi_timing **out, size_t *count, tamis_store *store, const char *family,
                                       const char *arch, int head_dim, int cc)
{
    struct timing_search search = {family, arch, head_dim, cc, NULL, 0, 0, false};
    tamis_status status;

    tamisi_store_lock(store);
    status = find_timings(&search, store);
    tamisi_store_unlock(store);
    if (status != TAMIS_OK) return status;
    *out = search.timings;
    *count = search.count;
    return TAMIS_OK;
}

/* ------------------------------------------------------------------------------------------------------- copying */

struct timing_copy {
    tamis_store *into;
    const struct tamisi_hash *sources;
    size_t count;
    tamis_status status;
};

static bool copy_timing(void *payload, const struct tamisi_row *row)
{
    struct timing_copy *copy = payload;
    struct tamisi_timing timing;

    if (!tamisi_row_to_timing(&timing, row) || timing.state == TAMISI_STARTED) return false;
    for (size_t i = 0; i < copy->count; i++) {
        if (!tamisi_hash_equal(&copy->sources[i], &timing.source)) continue;
        copy->status = tamisi_store_put_timing(copy->into, &timing);
        break;
    }
    return copy->status != TAMIS_OK;
}

tamis_status tamisi_store_copy_timings(tamis_store *into, tamis_store *from, const struct tamisi_hash *sources, size_t count)
{
    struct timing_copy copy = {into, sources, count, TAMIS_OK};
    tamis_status status;

    tamisi_store_lock(from);
    status = tamisi_table_scan(from, TAMISI_TIMINGS, TAMISI_RANGE_ALL, 0, copy_timing, &copy);
    tamisi_store_unlock(from);
    return status == TAMIS_OK ? copy.status : status;
}
