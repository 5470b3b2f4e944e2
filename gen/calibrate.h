/*
 * calibrate.h: from measured prompts to the fastest setting whose answers stay right: pure arithmetic on what quality_csv
 * has read. Layer: above quality_csv, below cmd_calibrate.c.
 *
 * Each prompt of a setting is compared with the same prompt run dense. The loss is the mean of dense accuracy less the
 * setting's, so that prompts that both answer wrongly do not count; the speed is the ratio of all their prefill times.
 */
#ifndef CALIBRATE_H
#define CALIBRATE_H

#include "quality_csv.h"

struct calibrate_setting {
    const struct quality_row *row; /* one of it: the setting, its selection and layers */
    int prompts;                   /* that dense has too */
    double accuracy, dense;        /* means over those */
    double loss;                   /* dense - accuracy; below 0: better than dense */
    double error;                  /* standard error of the loss, from the differences of the prompts */
    double worst;                  /* the largest mean loss of a task at a length */
    const struct quality_row *worst_row; /* one of that task and length */
    double speed;                  /* dense prefill time over the setting's; 0: no time was measured */
    double slowest;                /* the same at the length where it is least */
    long long slowest_length;
};

struct calibrate_result {
    struct calibrate_setting *settings; /* the fastest first */
    size_t count;
    int prompts; /* of dense; a setting with fewer is not chosen */
};

/* `length` 0: prompts of all lengths. Rows are put in another order, and must outlive the result. TAMIS_EINVAL: a prompt twice,
   two dense settings, none, or models of different sizes, with `name` and the line; TAMIS_ENOMEM. */
tamis_status calibrate_measure(struct calibrate_result *out, const char *name, struct quality_row *rows, size_t count,
                               long long length);
void calibrate_free(struct calibrate_result *result);

/* Whether a setting has all of dense's prompts, and loses at most `bound`: on the mean or, `each`, in each task and length. */
bool calibrate_holds(const struct calibrate_result *result, const struct calibrate_setting *setting, double bound, bool each);
/* Whether it is worth a loss at all: faster than dense over all lengths. */
bool calibrate_pays(const struct calibrate_setting *setting);

/*
 * The fastest that holds, pays, and is `like` in scope, window, pool and min_tokens; NULL: there is none. `like` NULL: any.
 */
const struct calibrate_setting *calibrate_choose(const struct calibrate_result *result, double bound, bool each,
                                                 const tamis_selection *like);
bool calibrate_alike(const tamis_selection *a, const tamis_selection *b);

#endif
