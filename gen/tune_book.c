/*
 * tune_book.c: see tune_book.h. Rows are read a family at a time, and again after each write.
 */
#include "tune_book.h"

#include <stdlib.h>
#include <string.h>

static bool is_about(const struct tune_book *book, const struct tamisi_timing *wanted)
{
    return book->known && strcmp(book->about.family, wanted->family) == 0 && strcmp(book->about.arch, wanted->arch) == 0 &&
           book->about.bucket.head_dim == wanted->bucket.head_dim && book->about.gpu.cc == wanted->gpu.cc;
}

/* What cannot be read counts as not known: it is timed again. */
static void read_rows(struct tune_book *book, const struct tamisi_timing *wanted)
{
    free(book->rows);
    book->rows = NULL;
    book->count = 0;
    book->known = tamisi_store_find_timings(&book->rows, &book->count, book->store, wanted->family, wanted->arch,
                                            wanted->bucket.head_dim, wanted->gpu.cc) == TAMIS_OK;
    book->about = *wanted;
}

static bool find(void *payload, const struct tamisi_timing *wanted, struct tamisi_timing *out)
{
    struct tune_book *book = payload;
    if (!is_about(book, wanted)) read_rows(book, wanted);
    for (size_t i = 0; i < book->count; i++) {
        if (!tamisi_timing_same_key(&book->rows[i], wanted)) continue;
        *out = book->rows[i];
        return true;
    }
    return false;
}

static bool has_run(void *payload, const struct tamisi_timing *wanted)
{
    struct tune_book *book = payload;
    if (!is_about(book, wanted)) read_rows(book, wanted);
    for (size_t i = 0; i < book->count; i++)
        if ((book->rows[i].state == TAMISI_TIMED || book->rows[i].state == TAMISI_STOPPED) &&
            tamisi_hash_equal(&book->rows[i].source, &wanted->source) && tamisi_gpu_equal(&book->rows[i].gpu, &wanted->gpu))
            return true;
    return false;
}

static double behind(void *payload, const struct tamisi_timing *wanted)
{
    struct tune_book *book = payload;
    if (!is_about(book, wanted)) read_rows(book, wanted);
    return tune_behind(book->rows, book->count, wanted);
}

static bool is_bad(void *payload, const struct tamisi_timing *wanted)
{
    struct tune_book *book = payload;
    if (!is_about(book, wanted)) read_rows(book, wanted);
    for (size_t i = 0; i < book->count; i++)
        if (book->rows[i].state >= TAMISI_WRONG && tamisi_hash_equal(&book->rows[i].source, &wanted->source) &&
            tamisi_gpu_equal(&book->rows[i].gpu, &wanted->gpu))
            return true;
    return false;
}

static tamis_status begin(void *payload, const struct tamisi_timing *started)
{
    struct tune_book *book = payload;
    book->known = false;
    return tamisi_store_put_timing(book->store, started);
}

static tamis_status end(void *payload, const struct tamisi_timing *started)
{
    struct tune_book *book = payload;
    book->known = false;
    return tamisi_store_end_timing(book->store, started);
}

static tamis_status put_all(tamis_store *store, const struct tamisi_timing *timings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        TAMIS_TRY(tamisi_store_put_timing(store, &timings[i]));
        TAMIS_TRY(tamisi_store_end_timing(store, &timings[i]));
    }
    return TAMIS_OK;
}

static tamis_status finish(void *payload, const struct tamisi_timing *timings, size_t count)
{
    struct tune_book *book = payload;
    book->known = false;
    TAMIS_TRY(tamisi_store_begin(book->store));
    const tamis_status status = put_all(book->store, timings, count);
    if (status == TAMIS_OK) return tamisi_store_commit(book->store);
    tamisi_store_rollback(book->store);
    return status;
}

void tune_book_open(struct tune_book *book, tamis_store *store, struct tune_journal *journal)
{
    *book = (struct tune_book){.store = store};
    *journal = (struct tune_journal){book, find, has_run, behind, is_bad, begin, end, finish};
}

void tune_book_close(struct tune_book *book)
{
    free(book->rows);
    *book = (struct tune_book){.store = NULL};
}
