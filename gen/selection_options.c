/*
 * selection_options.c: see selection_options.h.
 */
#include "selection_options.h"

/* Exactly one policy, or what is there already. */
static int read_policy(struct cli *cli, tamis_selection *selection)
{
    static const struct {
        const char *option;
        tamis_policy policy;
    } policies[] = {{"coverage", TAMIS_COVERAGE}, {"ratio", TAMIS_RATIO}, {"count", TAMIS_COUNT}, {"dense", TAMIS_DENSE}};
    const char *first = NULL;
    long long count = selection->count;
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        if (!cli_given(cli, policies[i].option)) continue;
        if (first) return cli_usage(cli, "--%s and --%s: one policy would be right", first, policies[i].option);
        first = policies[i].option;
        selection->policy = policies[i].policy;
    }
    if (!cli_real(cli, "coverage", 0, 1, &selection->coverage) || !cli_real(cli, "ratio", 0, 1, &selection->ratio) ||
        !cli_integer(cli, "count", 0, SELECTION_MAX_TOKENS, &count))
        return CLI_USAGE;
    if (cli_given(cli, "coverage") && selection->coverage >= 1)
        return cli_usage(cli, "--coverage: 1 would drop all tokens, less would be right");
    if (cli_given(cli, "ratio") && selection->ratio <= 0)
        return cli_usage(cli, "--ratio: 0 would keep no token, more would be right");
    selection->count = count;
    return CLI_OK;
}

int selection_options_read(struct cli *cli, tamis_selection *selection)
{
    long long window = selection->window, pool = selection->pool, min_tokens = selection->min_tokens;
    int scope = (int)selection->scope;
    if (!cli_integer(cli, "window", 1, 1024, &window) || !cli_integer(cli, "pool", 1, 63, &pool) ||
        !cli_integer(cli, "min-tokens", 0, SELECTION_MAX_TOKENS, &min_tokens) || !cli_choice(cli, "scope", &scope))
        return CLI_USAGE;
    if (cli_given(cli, "pool") && pool % 2 == 0)
        return cli_usage(cli, "--pool: %lld is even, an odd width would be right", pool);
    selection->window = (int32_t)window;
    selection->pool = (int32_t)pool;
    selection->min_tokens = min_tokens;
    selection->scope = (tamis_scope)scope;
    return read_policy(cli, selection);
}
