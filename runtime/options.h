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

/* Where a caller's struct ends: behind the last member that it has whole, of those in which a version of it ended. */
static inline size_t tamisi_plan_options_bytes(const tamis_plan_options *given)
{
    if (given->struct_size >= sizeof *given) return sizeof *given;
    const size_t second = offsetof(tamis_plan_options, output_map);
    return given->struct_size >= second ? second : TAMISI_PLAN_OPTIONS_LEAST_BYTES;
}

static inline size_t tamisi_run_args_bytes(const tamis_run_args *given)
{
    if (given->struct_size >= sizeof *given) return sizeof *given;
    const size_t second = offsetof(tamis_run_args, output_map);
    return given->struct_size >= second ? second : TAMISI_RUN_ARGS_LEAST_BYTES;
}

/*
 * TAMIS_EINVAL unless a struct that the caller passed is one that this library can read: not shorter than its first
 * version, and where it is longer than what is known, because of a newer header, its further members are zero. `name` is
 * the argument's, `init` the macro that sets the size.
 */
tamis_status tamisi_options_check(const void *options, size_t least_bytes, size_t known_bytes, const char *name,
                                  const char *init);

#endif
