/* pattern_options.h: the option that names a block pattern. Layer: above cli. */
#ifndef PATTERN_OPTIONS_H
#define PATTERN_OPTIONS_H

#include "cli.h"
#include "tamis.h"

#define PATTERN_OPTION                                                                                               \
    {                                                                                                                \
        "pattern", 0, "KIND[:KEY=VALUE,...]",                                                                        \
            "attend to blocks of 128 tokens that a pattern chooses: blocks=FILE.npy, an int32 or uint16 array (batch, " \
            "q_heads, T, T), 0 where a block is left out"                                                             \
    }

/*
 * --pattern, if it is given: `out` has the published parameters of the kind but for those that were set. `blocks` receives
 * the file of "blocks=FILE", else NULL. CLI_OK; CLI_USAGE, with a message.
 */
int pattern_options_read(struct cli *cli, tamis_pattern *out, const char **blocks);

#endif
