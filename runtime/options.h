/*
 * options.h: public structs that begin with their own size. Layer: above error.
 */
#ifndef TAMISI_OPTIONS_H
#define TAMISI_OPTIONS_H

#include "error.h"
#include "tamis.h"

#include <stddef.h>

#define TAMISI_PROBLEM_LEAST_BYTES offsetof(tamis_problem, mask) /* the first version of tamis_problem had no mask */
#define TAMISI_PLAN_OPTIONS_LEAST_BYTES offsetof(tamis_plan_options, pattern)
#define TAMISI_RUN_ARGS_LEAST_BYTES offsetof(tamis_run_args, blocks)

/*
 * TAMIS_EINVAL unless a struct that the caller passed is one that this library can read: not shorter than its first
 * version, and where it is longer than what is known, because of a newer header, its further members are zero. `name` is
 * the argument's, `init` the macro that sets the size.
 */
tamis_status tamisi_options_check(const void *options, size_t least_bytes, size_t known_bytes, const char *name,
                                  const char *init);

#endif
