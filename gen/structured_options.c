/*
 * structured_options.c: see structured_options.h.
 */
#include "structured_options.h"

int structured_options_read(struct cli *cli, struct structured *structure)
{
    long long spacing = structure->spacing;
    if (!cli_real(cli, "sink", 0, 50, &structure->sink) || !cli_real(cli, "local", 0, 50, &structure->local) ||
        !cli_real(cli, "hitter", 0, 50, &structure->hitter) || !cli_integer(cli, "spacing", 1, 1 << 24, &spacing))
        return CLI_USAGE;
    structure->spacing = (int)spacing;
    return CLI_OK;
}
