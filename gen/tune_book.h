/*
 * tune_book.h: a tuner's journal in a store. Layer: above the store, below cmd_tune.c.
 */
#ifndef TUNE_BOOK_H
#define TUNE_BOOK_H

#include "tune.h"

struct tune_book {
    tamis_store *store;
    struct tamisi_timing *rows; /* of the family, head_dim and GPU that were asked about last; owned */
    size_t count;
    struct tamisi_timing about; /* which they are */
    bool known;                 /* the rows are up to date */
};

void tune_book_open(struct tune_book *book, tamis_store *store, struct tune_journal *journal);
void tune_book_close(struct tune_book *book);

#endif
