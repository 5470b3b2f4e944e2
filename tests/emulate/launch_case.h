/*
 * launch_case.h: what the files of launch_patterns.c share: the problem, its tensors, and launching through the exported
 * launcher.
 */
#ifndef LAUNCH_CASE_H
#define LAUNCH_CASE_H

#include "tamis_kernels.h"

#include <tamis.h>

enum { BATCH = 2, LENGTH = 700 };
#define LOG2_E 1.44269504088896340736

extern tamis_context *context;
extern tamis_problem problem;
extern struct tamis_kernels kernels;
extern int sms, q_heads, kv_heads, head_dim;
extern struct tamis_rows q, k, v, output; /* (B, heads, L, D), on the device */

void need(int truth, const char *what); /* or the program ends, with the last error */
uint32_t random_bits(void);

void *device_alloc(size_t bytes);
void *device_copy(const void *host, size_t bytes);
tamis_tensor tensor_of(const struct tamis_rows *rows);
size_t bytes_of(int heads); /* of a tensor */
void poison_output(void);
uint16_t *read_output(void); /* the caller's to free, and run_plain()'s */

/* By the launcher, which must have the stage. */
void launch(const char *stage, long long x, long long y, long long z, void *args);
long long tiles_of(const char *stage, long long rows);

/* By libtamis, on all blocks. */
uint16_t *run_plain(tamis_store *store);

/* A check: are the outputs the same? */
void compare(const uint16_t *wanted, const uint16_t *found, const char *format, ...);

void check_output_map(tamis_store *store); /* launch_map.c */

#endif
