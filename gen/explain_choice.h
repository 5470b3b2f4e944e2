/*
 * explain_choice.h: which variant of each family a plan takes, and why, for `tamis plan --explain`. Layer: above cli and the
 * runtime's gpu.h, below cmd_plan.c.
 */
#ifndef EXPLAIN_CHOICE_H
#define EXPLAIN_CHOICE_H

#include "cli.h"
#include "gpu.h"

struct explain_choice {
    const char *families[TAMISI_ALL_FAMILIES]; /* of tamisi_gpu_families */
    char variants[TAMISI_ALL_FAMILIES][TAMISI_SYMBOL_SIZE];
    struct tamisi_choice choices[TAMISI_ALL_FAMILIES];
    int count; /* families so far */
};

/* The GPU that `context` is of; NULL: one of the architecture of which no more is known, so that no timing is its own. */
void explain_identify(struct tamisi_gpu_identity *out, const tamis_context *context, const char *arch);
void explain_choice_add(struct explain_choice *choice, const char *family, const struct tamisi_variant *variant,
                        const struct tamisi_choice *why);
void explain_choice_print(const struct explain_choice *choice, struct cli *cli);
void explain_choice_json(const struct explain_choice *choice, struct json *json);

#endif
