/* report.h: what is printed of runs; see report.c. */
#ifndef REPORT_H
#define REPORT_H

#include "prefill.h"

struct report {
    const struct model *model;
    const struct prefill_options *options;
    const char *device;
    size_t weight_bytes, activation_bytes, workspace_bytes;
    size_t used_bytes, total_bytes;   /* of the device's memory, cuBLAS's and other programs' included; 0: not known */
    bool ran[2];                      /* dense, sparse */
    struct prefill_result results[2]; /* the fastest run of each */
    bool drift;                       /* was measured, in the dense run */
    double peer_ms;                   /* of a layer's dense attention elsewhere; 0: not given */
};

void report_print(const struct report *report, bool json);
void report_drift(const struct report *report, const char *path); /* "layer,drift", as `tamis layers` reads it */

#endif
