/* pattern_options.h: the option that names a block pattern. Layer: above cli and spec_pattern. */
#ifndef PATTERN_OPTIONS_H
#define PATTERN_OPTIONS_H

#include "cli.h"
#include "tamis.h"

#define PATTERN_OPTION                                                                                                     \
    {                                                                                                                      \
        "pattern", 0, "KIND,...",                                                                                          \
            "attend to some blocks of 128 by 128 tokens: sliding, vertical_slash, flexprefill, xattention or topk_blocks, "\
            "with parameters as in a spec behind commas (flexprefill,gamma=0.9), none, or blocks=FILE.npy, an int32 or "   \
            "uint16 array (batch, q_heads, T, T) that is 0 where a block is left out"                                      \
    }

/*
 * --pattern: what is given wins over what `out` says already, and has the published parameters of its kind but for those
 * that are set. `blocks` receives the file of "blocks=FILE", else NULL. CLI_OK; CLI_USAGE, with a message.
 */
int pattern_options_read(struct cli *cli, tamis_pattern *out, const char **blocks);

#endif
