/*
 * options.h: public structs that begin with their own size. Layer: above error.
 */
#ifndef TAMISI_OPTIONS_H
#define TAMISI_OPTIONS_H

#include "error.h"

/*
 * TAMIS_EINVAL unless a struct that the caller passed is one that this library can read: not shorter than what it knows
 * (there is one version of each so far), and where it is longer, because of a newer header, its further members are zero.
 * `name` is the argument's, `init` the macro that sets the size.
 */
tamis_status tamisi_options_check(const void *options, size_t known_bytes, const char *name, const char *init);

#endif
