/*
 * quality_csv.h: what `tamis calibrate` reads: a row a prompt and attention setting, as examples/quality/run.py writes it.
 * Columns are found by their names in the first line; others are passed over, and so are rows without an accuracy, such as a
 * text's perplexity, and those of methods beside dense and sparse. Layer: above csv, below calibrate.
 */
#ifndef QUALITY_CSV_H
#define QUALITY_CSV_H

#include "tamis.h"

#include <stdbool.h>
#include <stddef.h>

#define QUALITY_CASE 5

/* Texts belong to what was read. */
struct quality_row {
    const char *setting;             /* "sparse:coverage=.01,layers=delta:0.5" */
    const char *cases[QUALITY_CASE]; /* task, haystack, length, depth, sample: which prompt it was */
    bool dense;
    double accuracy, prefill_ms;
    tamis_selection selection; /* as it was run; dense: policy TAMIS_DENSE alone */
    const char *amount;        /* coverage, ratio or count as it was written */
    const char *sparse_layers; /* as a spec has them, normal form; "" of a dense row */
    int layers;                /* of the model */
    long long length;          /* of the prompt, tokens */
    int line;
};

/*
 * All rows of `text`, which stays where it is and is changed. *rows is the caller's, to be freed; NULL on failure.
 * TAMIS_EINVAL, "name:line: what is wrong, what would be right"; TAMIS_ENOMEM.
 */
tamis_status quality_csv_read(struct quality_row **rows, size_t *count, const char *name, char *text, size_t bytes);

/* The order of prompts: their five columns in turn. 0: the same prompt. */
int quality_case_compare(const struct quality_row *a, const struct quality_row *b);

#endif
