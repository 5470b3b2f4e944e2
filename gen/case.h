/*
 * case.h: a case folder: q.npy, k.npy and v.npy, what case.yaml says of them, and the reference that may lie beside them.
 * Layer: above npy, equal and spec_yaml, below cmd_run and cmd_verify.
 */
#ifndef CASE_H
#define CASE_H

#include "equal.h"
#include "npy.h"
#include "tamis.h"

#include <stdbool.h>

struct case_input {
    tamis_problem problem; /* geometry and dtype from the arrays */
    struct npy q, k, v;
};

bool case_has_yaml(const char *folder);

/*
 * Read the inputs. Selection and scale are those of `base` where case.yaml, if there is one, does not say otherwise; what it
 * says of geometry must be true. TAMIS_EINVAL ("case.yaml:line:column: ..." or "q.npy: ..."), TAMIS_ENOTFOUND, TAMIS_EIO,
 * TAMIS_ENOMEM. After a failure too case_free() is due.
 */
tamis_status case_read(struct case_input *out, const char *folder, const tamis_problem *base);
void case_free(struct case_input *input);

/* What float64 arithmetic gives: kept.npy, indices.npy, output.npy and, where tokens are scored, score.npy. */
struct case_reference {
    struct npy kept, indices, output, score;
    long long capacity; /* row length of indices */
};
/* All arrays are checked against the problem: shapes, types, and that positions ascend within it. */
tamis_status case_reference_read(struct case_reference *out, const char *folder, const tamis_problem *problem);
void case_reference_free(struct case_reference *reference);

/* Query heads, KV heads or 1: how many index lists a sequence has. */
int case_index_heads(const tamis_problem *problem);

#endif
