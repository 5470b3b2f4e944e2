/*
 * kernel_table.h: kernels with what they use, a row or a JSON object each: what `gen` and `show` print. Layer: above cli and
 * store, below the commands.
 */
#ifndef KERNEL_TABLE_H
#define KERNEL_TABLE_H

#include "cli.h"
#include "store.h"

struct kernel_table {
    struct cli *cli;
    struct cli_table table;
    bool reasons; /* a column for them */
};

void kernel_table_open(struct kernel_table *table, struct cli *cli, bool reasons);
/* A variant's kernels. `resources` as the compiler gave them, count 0: not compiled. `reason` may be "". */
void kernel_table_add(struct kernel_table *table, const struct tamisi_variant *variant,
                      const struct tamisi_resource *resources, int count, const char *reason);
void kernel_table_close(struct kernel_table *table); /* prints what is not printed */

/* A warning for each kernel whose wgmma the compiler serialised; whether there was one. */
bool kernel_warn_serialized(struct cli *cli, const struct tamisi_variant *variant, const struct tamisi_resource *resources,
                            int count);

#endif
