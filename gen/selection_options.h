/*
 * selection_options.h: the options that say what is kept, which `run` and `plan` share. Layer: above cli, below the commands.
 */
#ifndef SELECTION_OPTIONS_H
#define SELECTION_OPTIONS_H

#include "cli.h"

#define SELECTION_MAX_TOKENS (1LL << 24) /* the longest sequence */

/* --coverage, --ratio, --count, --dense (one of them), --scope, --window, --pool, --min-tokens: those given win over what
   `selection` says already. CLI_OK or CLI_USAGE. */
int selection_options_read(struct cli *cli, tamis_selection *selection);

/* Their rows of a command's table. */
#define SELECTION_OPTIONS                                                                                                  \
    {"coverage", 0, "X", "drop the tokens that together have less than this part of the attention mass"},                  \
        {"ratio", 0, "X", "keep this part of the tokens before the window"},                                               \
        {"count", 0, "N", "keep this many of the tokens before the window"},                                               \
        {"dense", 0, NULL, "keep all: plain causal attention"},                                                            \
        {"scope", 0, "head|kv_group|layer", "which heads choose together"},                                                \
        {"window", 0, "W", "the last queries, which score and are always kept"},                                           \
        {"pool", 0, "P", "width of the moving average over scores, odd"},                                                  \
    {                                                                                                                      \
        "min-tokens", 0, "M", "never keep fewer before the window"                                                         \
    }

#endif
