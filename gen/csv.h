/*
 * csv.h: records of a comma-separated text as RFC 4180 has it: quoted fields may hold commas, line ends and doubled quotes.
 * Pure. Layer: above error, below quality_csv.c.
 */
#ifndef CSV_H
#define CSV_H

#include "tamis.h"

#include <stddef.h>

#define CSV_FIELDS 64

/* A text that is being read, and is changed by that: fields are ended by zeros in place. */
struct csv {
    const char *name; /* what messages call it */
    char *at, *end;
    int line; /* where the last record began, from 1; 0: none was read */
    int next_line;
    char *fields[CSV_FIELDS];
    int count;
};

/* `text` ends with a zero, which `bytes` does not count. A byte order mark is passed over. */
void csv_open(struct csv *csv, const char *name, char *text, size_t bytes);

/* The next record into fields and count, 0 at the end. Empty lines are none. TAMIS_EINVAL, "name:line: what is wrong". */
tamis_status csv_next(struct csv *csv);

#endif
