/*
 * pattern_options.c: see pattern_options.h. Kinds and parameters are those of a spec's `pattern`.
 */
#include "pattern_options.h"

#include "spec_pattern.h"

#include <string.h>

int pattern_options_read(struct cli *cli, tamis_pattern *out, const char **blocks)
{
    const char *text = cli_value(cli, "pattern");
    char wrong[320];
    *blocks = NULL;
    if (!text) return CLI_OK;
    if (strncmp(text, "blocks=", strlen("blocks=")) == 0) {
        *out = (tamis_pattern)TAMIS_PATTERN_INIT;
        out->kind = TAMIS_PATTERN_HOST_BLOCKS;
        out->host_blocks.form = TAMIS_BLOCKS_BITS;
        *blocks = text + strlen("blocks=");
        return CLI_OK;
    }
    if (spec_pattern_read(out, text, wrong, sizeof wrong)) return CLI_OK;
    return cli_usage(cli, "--pattern: %s", wrong);
}
