/*
 * report.h: what a store knows of a spec's times on one GPU, as data and as a page. Data from the store alone; the page is one
 * file of HTML with SVG in it, which asks no network for anything. Layer: above choice.h and the store, below cmd_report.c.
 */
#ifndef REPORT_H
#define REPORT_H

#include "store.h"

#include <stdbool.h>

/* A bucket of a family with what was found in it. */
struct report_bucket {
    const char *family;
    struct tamisi_bucket bucket;
    struct tamisi_timing *timings; /* of its candidates; part of the report's */
    size_t count;
    double best_us, default_us; /* of the chosen variant and of the default; 0: unknown */
    char chosen[TAMISI_SYMBOL_SIZE];
};

#define REPORT_FAMILIES 10

struct report {
    char spec[64], arch[16];
    tamis_problem problem; /* the spec's, of this dtype */
    struct tamisi_gpu_identity gpu;
    struct tamisi_variant *variants; /* owned, by rank; those of the dtype */
    size_t variant_count;
    struct tamisi_timing *timings; /* owned; by family, bucket and then variant's rank */
    size_t timing_count;
    struct report_bucket *buckets; /* owned; by family, length, dense first, then fewest kept or listed last */
    size_t bucket_count;
    int64_t first, last; /* when the rows were made */
};

/* report_data.c. The GPUs that a store has timings of, for a spec; free(). */
tamis_status report_gpus(struct tamisi_gpu_identity **out, size_t *count, tamis_store *store, const char *spec,
                         const char *arch);
/* Of the store's timings those of the spec's own heads and selection: another of its specs may share the kernels. */
tamis_status report_make(struct report *out, tamis_store *store, const char *spec, const char *arch, tamis_dtype dtype,
                         const struct tamisi_gpu_identity *gpu);
bool report_has_dtype(const struct report *report); /* a kernel of the dtype was timed, not only those that all dtypes share */
void report_free(struct report *report);
/* Of a block pattern's bucket what tells it from others: "0.25 listed", "flexprefill"; else "". */
void report_name_lists(char out[32], const struct tamisi_bucket *bucket);
/* The bucket of a family; `kept` 0 where it means nothing. NULL: it was not timed. */
const struct report_bucket *report_find(const struct report *report, const char *family, int64_t seq_len, int64_t kept,
                                        bool dense);

/* report_chart.c: charts as SVG */

#define REPORT_SERIES 10
#define REPORT_POINTS 32

struct report_chart {
    const char *title, *y_label;
    bool log_y; /* else from 0 */
    struct {
        char name[64];
        int count;
        struct {
            double x, y;
        } points[REPORT_POINTS];
    } series[REPORT_SERIES];
    int series_count;
};

void report_chart_add(struct report_chart *chart, const char *series, double x, double y); /* in order of x */
void report_chart_write(struct tamisi_buf *out, const struct report_chart *chart); /* x: tokens, by octaves */

/* Bars of parts, one below the other. */
struct report_bars {
    const char *title;
    const char *const *parts; /* their names, in the order of stacking; NULL ends */
    struct {
        char name[64];
        double parts[8];
    } bars[REPORT_POINTS];
    int bar_count;
};
void report_bars_write(struct tamisi_buf *out, const struct report_bars *bars);

/* A strip a bucket: each candidate a dot, at its time over the best's. */
void report_landscape_write(struct tamisi_buf *out, const struct report *report, const char *family);

void report_escape(struct tamisi_buf *out, const char *text); /* for HTML */

/* report_page.c: the section of one GPU; begin and end go around all of them. */
void report_page_begin(struct tamisi_buf *out, const char *store, const char *spec);
void report_page_section(struct tamisi_buf *out, const struct report *report, tamis_store *store);
void report_page_end(struct tamisi_buf *out);

#endif
