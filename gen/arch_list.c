/* arch_list.c: --arch sm_80,sm_90a, read and checked. */
#define _GNU_SOURCE
#include "arch_list.h"

#include <stdio.h>
#include <string.h>

static int unknown_arch(struct cli *cli, const char *arch)
{
    char list[128] = "";
    for (const char *const *known = spec_archs; *known; known++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", known == spec_archs ? "" : ", ", *known);
    return cli_usage(cli, "--arch: \"%s\" is none of %s", arch, list);
}

static bool is_in(const char *const *names, const char *arch)
{
    while (*names && strcmp(*names, arch) != 0) names++;
    return *names != NULL;
}

int arch_list_read(struct cli *cli, struct arch_list *out)
{
    const char *list = cli_value(cli, "arch");
    char *rest = NULL;
    int count = 0;
    memset(out, 0, sizeof *out);
    if (!list) return CLI_OK;
    if (strlen(list) >= sizeof out->text) return cli_usage(cli, "--arch: the list is too long");
    memcpy(out->text, list, strlen(list) + 1);
    for (char *arch = strtok_r(out->text, ", ", &rest); arch; arch = strtok_r(NULL, ", ", &rest)) {
        if (!is_in(spec_archs, arch)) return unknown_arch(cli, arch);
        if (!is_in(out->names, arch) && count < SPEC_MAX_ARCHS) out->names[count++] = arch;
    }
    return count ? CLI_OK : cli_usage(cli, "--arch: the list is empty");
}

int arch_list_read_one(struct cli *cli, const char **out)
{
    *out = cli_value(cli, "arch");
    return !*out || is_in(spec_archs, *out) ? CLI_OK : unknown_arch(cli, *out);
}

bool arch_list_has(const struct arch_list *list, const char *arch) { return !list->names[0] || is_in(list->names, arch); }
