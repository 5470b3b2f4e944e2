/*
 * cli_help.c: a command's help, made from its table: what it does, options, examples, exit codes. Beside cli.c.
 */
#include "cli.h"

#include <stdio.h>
#include <string.h>

#define HELP_WIDTH 96
#define OPTION_WIDTH 26

const struct cli_option cli_common_options[] = {
    {"json", 0, NULL, "write JSON to stdout: one object a line"},
    {"quiet", 'q', NULL, "no progress and no notes; warnings and errors stay"},
    {"color", 0, "auto|always|never", "colours; auto, the default, heeds NO_COLOR and whether a terminal reads"},
    {"help", 'h', NULL, "this text"},
    {NULL, 0, NULL, NULL}};

static const struct cli_exit_text common_exits[] = {{CLI_OK, "success"},
                                                    {CLI_FAILED, "failure that has no code of its own"},
                                                    {CLI_USAGE, "wrong arguments"},
                                                    {0, NULL}};

/* Words of `text` from column `indent` on; the first line has begun already. */
static void print_wrapped(const char *text, size_t indent)
{
    size_t column = indent;
    while (*text) {
        const size_t bytes = strcspn(text, " \n");
        if (column > indent && column + 1 + bytes > HELP_WIDTH) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        }
        if (column > indent) column += (size_t)printf(" ");
        column += (size_t)printf("%.*s", (int)bytes, text);
        text += bytes;
        if (*text == '\n') {
            printf("\n%*s", (int)indent, "");
            column = indent;
        }
        if (*text) text++;
    }
    printf("\n");
}

static void print_options(const struct cli_option *options)
{
    for (; options && options->name; options++) {
        char left[64];
        const char letter[] = {'-', options->letter, ',', ' ', '\0'};
        snprintf(left, sizeof left, "%s--%s%s%s", options->letter ? letter : "    ", options->name,
                 options->value ? " " : "", options->value ? options->value : "");
        printf("  %-*s", OPTION_WIDTH - 2, left);
        if (strlen(left) > OPTION_WIDTH - 3) printf("\n%*s", OPTION_WIDTH, "");
        print_wrapped(options->help, OPTION_WIDTH);
    }
}

static const char *exit_text(const struct cli_exit_text *exits, int code)
{
    for (; exits && exits->text; exits++)
        if (exits->code == code) return exits->text;
    return NULL;
}

/* In order; what the command says of a code goes before what is said of all commands. */
static void print_exits(const struct cli_exit_text *exits)
{
    for (int code = 0; code <= CLI_INTERRUPTED; code++) {
        const char *own = exit_text(exits, code), *common = exit_text(common_exits, code);
        if (!own && !common) continue;
        printf("  %3d  ", code);
        print_wrapped(own ? own : common, 7);
    }
}

void cli_help(const struct cli *cli)
{
    const struct cli_command *command = cli->command;
    const char *bold = cli_bold(cli), *plain = cli_plain(cli);
    printf("%sUsage:%s tamis %s%s%s\n\n", bold, plain, command->name, *command->name ? " " : "", command->operands);
    print_wrapped(command->description, 0);
    if (command->children) {
        printf("\n%sCommands:%s\n", bold, plain);
        for (const struct cli_command *const *child = command->children; *child; child++)
            printf("  %-*s%s\n", OPTION_WIDTH - 2, (*child)->name, (*child)->summary);
        return;
    }
    printf("\n%sOptions:%s\n", bold, plain);
    print_options(command->options);
    print_options(cli_common_options);
    printf("\n%sExamples:%s\n", bold, plain);
    for (const char *line = command->examples; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL))
        printf("  %.*s\n", (int)strcspn(line, "\n"), line);
    printf("\n%sExit codes:%s\n", bold, plain);
    print_exits(command->exits);
}
