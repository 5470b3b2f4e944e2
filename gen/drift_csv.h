/*
 * drift_csv.h: what `tamis layers` reads: a line a layer, "layer,drift". Pure. Layer: below cmd_layers.c, above error.
 *
 * A first line "layer,drift", empty lines and lines that begin with # are passed over; layers may stand in any order.
 */
#ifndef DRIFT_CSV_H
#define DRIFT_CSV_H

#include "tamis.h"

#include <stddef.h>

#define DRIFT_CSV_LAYERS 1024
#define DRIFT_CSV_BYTES (256 * 1024)

/*
 * The drifts of layers 0 to *layers - 1, finite and not negative. TAMIS_EINVAL: "name:line: what is wrong, what would be
 * right", or "name: " where no line is to blame.
 */
tamis_status drift_csv_read(double drifts[DRIFT_CSV_LAYERS], int *layers, const char *name, const char *text, size_t bytes);

#endif
