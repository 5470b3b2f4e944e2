/*
 * main.c: from the command line to a command: its name, `help`, `--version`, and what to say to an unknown one.
 */
#include "cmd.h"
#include "complete.h"

#include "nearest.h"

#include <locale.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command *const commands[] = {&cmd_gen,  &cmd_show, &cmd_plan,  &cmd_run,    &cmd_verify, &cmd_bench,
                                                     &cmd_tune, &cmd_report, &cmd_spec, &cmd_layers, &cmd_calibrate, &cmd_cache,
                                                     &cmd_export, &cmd_import, &cmd_merge, &cmd_doctor, NULL};

static const struct cli_command tool = {
    .name = "",
    .operands = "COMMAND [argument...]",
    .operand_max = -1,
    .summary = "token-sparse attention kernels for your model and GPU",
    .description =
        "tamis makes token-sparse attention kernels for a model and a GPU: it generates CUDA from a spec, "
        "compiles it into a store, runs and checks it.\n"
        "'tamis help COMMAND' or 'tamis COMMAND --help' tells more; 'tamis --version' names the version; 'tamis "
        "doctor' says what this machine can do.",
    .children = commands};

static int help(const struct cli_command *command)
{
    struct cli cli;
    const int code = cli_open(&cli, command, 1, (char *[]){"--help", NULL}) ? CLI_OK : CLI_USAGE;
    if (code == CLI_OK) cli_help(&cli);
    return cli_close(&cli, code);
}

/* A message about a word that names no command below `parent`. */
static int unknown(const struct cli_command *parent, const char *word)
{
    const char *names[24];
    char advice[256];
    int count = 0;
    struct cli cli;
    for (const struct cli_command *const *child = parent->children; *child && count < 24; child++)
        names[count++] = cli_command_word(*child);
    cli_open(&cli, parent, 0, NULL);
    if (word) {
        nearest_describe(advice, sizeof advice, word, names, count);
        cli_usage(&cli, "unknown command %s: %s", word, advice);
    } else {
        nearest_describe(advice, sizeof advice, "", names, count);
        cli_usage(&cli, "a command is missing, %s", advice);
    }
    return cli_close(&cli, CLI_USAGE);
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    int code = CLI_USAGE;
    if (cli_open(&cli, command, argc, argv)) {
        code = CLI_OK;
        if (cli.help)
            cli_help(&cli);
        else
            code = command->run(&cli);
    }
    return cli_close(&cli, code);
}

static int version(void)
{
    struct cli cli;
    const bool opened = cli_open(&cli, &tool, 0, NULL);
    if (opened) cli_print(&cli, "tamis %s\n", tamis_version_string());
    return cli_close(&cli, opened ? CLI_OK : CLI_FAILED);
}

static bool is_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

/* Go down the commands as far as words name one; `help` may stand before them. */
int main(int argc, char **argv)
{
    const struct cli_command *command = &tool;
    int at = 1;
    setlocale(LC_ALL, "C"); /* numbers are written and read alike everywhere */
    if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) return version();
    if (argc > 1 && strcmp(argv[1], cmd_tune_worker.name) == 0) return run(&cmd_tune_worker, argc - 2, argv + 2);
    if (argc > 2 && strcmp(argv[1], COMPLETE_WORD) == 0) return complete(&tool, argc - 2, argv + 2);
    const bool asked = argc > 1 && (strcmp(argv[1], "help") == 0 || is_help(argv[1]));
    if (asked) at++;
    while (command->children) {
        if (at >= argc) return asked ? help(command) : unknown(command, NULL);
        if (is_help(argv[at])) return help(command);
        const struct cli_command *next = cli_find_command(command->children, argv[at]);
        if (!next) return unknown(command, argv[at]);
        command = next;
        at++;
    }
    return asked ? help(command) : run(command, argc - at, argv + at);
}
