/* arch_list.h: the value of --arch, a list of architectures that tamis knows. Above cli and spec, below cmd_*.c. */
#ifndef ARCH_LIST_H
#define ARCH_LIST_H

#include "cli.h"
#include "spec.h"

struct arch_list {
    char text[256];
    const char *names[SPEC_MAX_ARCHS + 1]; /* in `text`, none twice, NULL-terminated; names[0] NULL: all */
};

/* Where --arch is not given the list is empty. An unknown name, or a list of none, is CLI_USAGE. */
int arch_list_read(struct cli *cli, struct arch_list *out);
/* Of a command that takes one alone: NULL where it is not given. */
int arch_list_read_one(struct cli *cli, const char **out);
bool arch_list_has(const struct arch_list *list, const char *arch); /* an empty one has all */

#endif
