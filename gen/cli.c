/*
 * cli.c: a command's arguments, read by its option table. Long options are written out in full, "--name value" or
 * "--name=value"; short ones may stand together; "--" ends them. What is unknown is answered with what is nearest.
 */
#define _GNU_SOURCE
#include "cli.h"

#include "nearest.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- tables */

static const struct cli_option *table_find(const struct cli_option *options, const char *name, size_t bytes, char letter)
{
    for (; options && options->name; options++) {
        if (letter && options->letter == letter) return options;
        if (!letter && strlen(options->name) == bytes && strncmp(options->name, name, bytes) == 0) return options;
    }
    return NULL;
}

const struct cli_option *cli_find_option(const struct cli_command *command, const char *name, size_t bytes, char letter)
{
    const struct cli_option *own = table_find(command->options, name, bytes, letter);
    return own ? own : table_find(cli_common_options, name, bytes, letter);
}

const char *cli_command_word(const struct cli_command *command)
{
    const char *blank = strrchr(command->name, ' ');
    return blank ? blank + 1 : command->name;
}

const struct cli_command *cli_find_command(const struct cli_command *const *among, const char *word)
{
    for (; *among; among++)
        if (strcmp(cli_command_word(*among), word) == 0) return *among;
    return NULL;
}

size_t cli_next_word(const char **at)
{
    *at += strspn(*at, "[|,.]");
    return strcspn(*at, "[|,.] ");
}

/* ---- parsing */

static bool reject_long(struct cli *cli, const char *name, size_t bytes)
{
    const char *names[64];
    char word[64], advice[320];
    int count = 0;
    for (const struct cli_option *o = cli->command->options; o && o->name && count < 50; o++) names[count++] = o->name;
    for (const struct cli_option *o = cli_common_options; o->name; o++) names[count++] = o->name;
    snprintf(word, sizeof word, "%.*s", (int)bytes, name);
    nearest_describe(advice, sizeof advice, word, names, count);
    cli_usage(cli, "unknown option --%s: %s", word, advice);
    return false;
}

static void give(struct cli *cli, const struct cli_option *option, const char *value)
{
    cli->given[cli->given_count++] = (struct cli_given){option, value};
    cli->help = cli->help || strcmp(option->name, "help") == 0;
    cli->json = cli->json || strcmp(option->name, "json") == 0;
    cli->quiet = cli->quiet || strcmp(option->name, "quiet") == 0;
}

/* "--name", "--name=value". `at` moves on where the next argument is the value. */
static bool read_long(struct cli *cli, int argc, char **argv, int *at)
{
    const char *name = argv[*at] + 2;
    const size_t bytes = strcspn(name, "=");
    const struct cli_option *option = cli_find_option(cli->command, name, bytes, 0);
    const char *value = name[bytes] == '=' ? name + bytes + 1 : NULL;
    if (!option || bytes == 0) return reject_long(cli, name, bytes);
    if (!option->value && value) return cli_usage(cli, "--%s takes no value", option->name), false;
    if (option->value && !value) {
        if (*at + 1 >= argc) return cli_usage(cli, "--%s needs a value: %s", option->name, option->value), false;
        value = argv[++*at];
    }
    give(cli, option, value);
    return true;
}

/* "-q", "-j4", "-j 4", "-qj4". */
static bool read_short(struct cli *cli, int argc, char **argv, int *at)
{
    for (const char *letter = argv[*at] + 1; *letter; letter++) {
        const struct cli_option *option = cli_find_option(cli->command, NULL, 0, *letter);
        if (!option) return cli_usage(cli, "unknown option -%c", *letter), false;
        if (!option->value) {
            give(cli, option, NULL);
            continue;
        }
        const char *value = letter[1] ? letter + 1 : NULL;
        if (!value && *at + 1 >= argc) return cli_usage(cli, "-%c needs a value: %s", *letter, option->value), false;
        give(cli, option, value ? value : argv[++*at]);
        return true;
    }
    return true;
}

static bool read_all(struct cli *cli, int argc, char **argv)
{
    bool options = true;
    for (int at = 0; at < argc; at++) {
        const char *argument = argv[at];
        if (options && strcmp(argument, "--") == 0)
            options = false;
        else if (options && strncmp(argument, "--", 2) == 0) {
            if (!read_long(cli, argc, argv, &at)) return false;
        } else if (options && argument[0] == '-' && argument[1]) {
            if (!read_short(cli, argc, argv, &at)) return false;
        } else
            cli->operands[cli->operand_count++] = argument;
    }
    return true;
}

static bool check_operands(struct cli *cli)
{
    const struct cli_command *command = cli->command;
    if (cli->operand_count < command->operand_min)
        return cli_usage(cli, "%.*s is missing", (int)strcspn(command->operands, " ."), command->operands), false;
    if (command->operand_max >= 0 && cli->operand_count > command->operand_max)
        return cli_usage(cli, "\"%s\" is one argument too many", cli->operands[command->operand_max]), false;
    return true;
}

static bool choose_color(struct cli *cli)
{
    int choice = 0; /* of auto, always, never */
    if (!cli_choice(cli, "color", &choice)) return false;
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    const bool wanted = !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
    cli->color_out = choice == 1 || (choice == 0 && wanted && isatty(STDOUT_FILENO));
    cli->color_err = choice == 1 || (choice == 0 && wanted && isatty(STDERR_FILENO));
    return true;
}

bool cli_open(struct cli *cli, const struct cli_command *command, int argc, char **argv)
{
    *cli = (struct cli){.command = command};
    size_t room = 2; /* a cluster of short options gives one each */
    for (int i = 0; i < argc; i++) room += strlen(argv[i]) + 1;
    pthread_mutex_init(&cli->lock, NULL);
    cli->given = calloc(room, sizeof *cli->given);
    cli->operands = calloc((size_t)argc + 1, sizeof *cli->operands);
    if (!cli->given || !cli->operands) {
        cli_error(cli, CLI_FAILED, "out of memory");
        return false;
    }
    return read_all(cli, argc, argv) && choose_color(cli) && (cli->help || check_operands(cli));
}

int cli_close(struct cli *cli, int code)
{
    cli_progress_end(cli);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        const int reason = errno;
        fprintf(stderr, "tamis: error: cannot write to standard output: %s\n", strerror(reason));
        if (code == CLI_OK) code = CLI_FAILED;
    }
    free(cli->given);
    free(cli->operands);
    tamisi_buf_free(&cli->line);
    pthread_mutex_destroy(&cli->lock);
    return code;
}

/* ---- values */

const char *cli_value_at(const struct cli *cli, const char *name, int at)
{
    for (int i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].option->name, name) == 0 && at-- == 0) return cli->given[i].value;
    return NULL;
}

const char *cli_value(const struct cli *cli, const char *name)
{
    const char *value = NULL;
    for (int i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].option->name, name) == 0) value = cli->given[i].value;
    return value;
}

bool cli_given(const struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].option->name, name) == 0) return true;
    return false;
}

bool cli_integer(struct cli *cli, const char *name, long long least, long long most, long long *out)
{
    const char *text = cli_value(cli, name);
    char *end;
    if (!text) return true;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || value < least || value > most)
        return cli_usage(cli, "--%s: \"%s\" is not an integer from %lld to %lld", name, text, least, most), false;
    *out = value;
    return true;
}

bool cli_real(struct cli *cli, const char *name, double least, double most, double *out)
{
    const char *text = cli_value(cli, name);
    char *end;
    if (!text) return true;
    const double value = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !isfinite(value) || value < least || value > most)
        return cli_usage(cli, "--%s: \"%s\" is not a number from %g to %g", name, text, least, most), false;
    *out = value;
    return true;
}

bool cli_choice(struct cli *cli, const char *name, int *out)
{
    const char *text = cli_value(cli, name);
    char list[128] = "";
    size_t bytes;
    if (!text) return true;
    const char *word = cli_find_option(cli->command, name, strlen(name), 0)->value;
    for (int i = 0; (bytes = cli_next_word(&word)) > 0; i++, word += bytes) {
        if (strlen(text) == bytes && memcmp(word, text, bytes) == 0) return *out = i, true;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%.*s", i ? ", " : "", (int)bytes, word);
    }
    return cli_usage(cli, "--%s: \"%s\" is none of %s", name, text, list), false;
}
