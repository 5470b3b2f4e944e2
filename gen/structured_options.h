/*
 * structured_options.h: the options for structured inputs, which `bench compose` and `bench ablate` share. Layer: above cli and
 * structured.
 */
#ifndef STRUCTURED_OPTIONS_H
#define STRUCTURED_OPTIONS_H

#include "cli.h"
#include "structured.h"

/* --sink, --local, --hitter, --spacing: those given win over what `structure` says already. CLI_OK or CLI_USAGE. */
int structured_options_read(struct cli *cli, struct structured *structure);

/* Their rows of a command's table. */
#define STRUCTURED_OPTIONS                                                                                                 \
    {"sink", 0, "X", "logit of the first four keys; default: 6"},                                                          \
        {"local", 0, "X", "logit of a query's own key, from which it falls with the distance; default: 24"},               \
        {"hitter", 0, "X", "logit of keys that all queries attend to; default: 3"},                                        \
    {                                                                                                                      \
        "spacing", 0, "N", "one key in so many is such a one; default: 64"                                                 \
    }

#endif
