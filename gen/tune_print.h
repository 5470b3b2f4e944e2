/*
 * tune_print.h: what came of a tuner's buckets, as a table and as JSON. Layer: above cli and tune, below cmd_tune.c.
 */
#ifndef TUNE_PRINT_H
#define TUNE_PRINT_H

#include "cli.h"
#include "tune.h"

void tune_print_begin(struct cli_table *table); /* its head */
void tune_print_row(struct cli_table *table, const struct tune_task *task, const struct tune_outcome *outcome);
void tune_print_json(struct cli *cli, const char *spec, const char *gpu, const struct tune_task *task,
                     const struct tune_outcome *outcome, double seconds);

#endif
