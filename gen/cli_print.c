/*
 * cli_print.c: what the commands say: data on stdout, messages on stderr, JSON lines. Beside cli.c.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *color(bool on, const char *code) { return on ? code : ""; }

const char *cli_bold(const struct cli *cli) { return color(cli->color_out, "\033[1m"); }
const char *cli_plain(const struct cli *cli) { return color(cli->color_out, "\033[0m"); }

void cli_make_plain(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f) *text = '?';
}

/* One line to stderr: "tamis: <label> text". */
static void say(struct cli *cli, const char *label, const char *code, const char *text)
{
    char *line = strdup(text);
    if (line) cli_make_plain(line);
    pthread_mutex_lock(&cli->lock);
    cli_progress_clear(cli);
    const bool colored = cli->color_err && *label;
    fprintf(stderr, "tamis: %s%s%s%s\n", color(colored, code), label, color(colored, "\033[0m"), line ? line : "out of memory");
    pthread_mutex_unlock(&cli->lock);
    free(line);
}

/* Several lines, indented. */
static void say_detail(struct cli *cli, const char *detail)
{
    pthread_mutex_lock(&cli->lock);
    cli_progress_clear(cli);
    while (*detail) {
        const int bytes = (int)strcspn(detail, "\n");
        fprintf(stderr, "    %.*s\n", bytes, detail);
        detail += bytes + (detail[bytes] == '\n');
    }
    pthread_mutex_unlock(&cli->lock);
}

static void say_error(struct cli *cli, int code, const char *text, const char *detail)
{
    struct json json;
    say(cli, "error: ", "\033[1;31m", text);
    if (detail) say_detail(cli, detail);
    if (!cli->json) return;
    cli_json_begin(cli, &json, "error");
    json_string(&json, "message", text);
    json_string(&json, "detail", detail ? detail : "");
    json_int(&json, "exit", code);
    cli_json_end(cli, &json);
}

void cli_print(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    pthread_mutex_lock(&cli->lock);
    cli_progress_clear(cli);
    va_start(arguments, format);
    vfprintf(stdout, format, arguments);
    va_end(arguments);
    pthread_mutex_unlock(&cli->lock);
}

/* The formatted text; NULL without memory, which is then all that can be said. */
static char *format_text(const char *format, va_list arguments)
{
    char *text = NULL;
    return vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

#define FORMAT(text)                                                                                                       \
    va_list arguments;                                                                                                     \
    va_start(arguments, format);                                                                                           \
    char *text = format_text(format, arguments);                                                                           \
    va_end(arguments)

void cli_note(struct cli *cli, const char *format, ...)
{
    if (cli->quiet) return;
    FORMAT(text);
    say(cli, "", "", text ? text : "out of memory");
    free(text);
}

void cli_warn(struct cli *cli, const char *format, ...)
{
    FORMAT(text);
    say(cli, "warning: ", "\033[1;33m", text ? text : "out of memory");
    free(text);
}

int cli_error(struct cli *cli, int code, const char *format, ...)
{
    FORMAT(text);
    say_error(cli, code, text ? text : "out of memory", NULL);
    free(text);
    return code;
}

int cli_error_detail(struct cli *cli, int code, const char *detail, const char *format, ...)
{
    FORMAT(text);
    say_error(cli, code, text ? text : "out of memory", detail);
    free(text);
    return code;
}

int cli_usage(struct cli *cli, const char *format, ...)
{
    FORMAT(text);
    say_error(cli, CLI_USAGE, text ? text : "out of memory", NULL);
    free(text);
    fprintf(stderr, "Try 'tamis %s%s--help'.\n", cli->command->name, *cli->command->name ? " " : "");
    return CLI_USAGE;
}

int cli_fail_as(struct cli *cli, int code)
{
    say_error(cli, code, tamis_last_error(), tamis_last_error_detail());
    return code;
}

int cli_fail(struct cli *cli, tamis_status status)
{
    return cli_fail_as(cli, status == TAMIS_ENODEVICE  ? CLI_NO_DEVICE
                            : status == TAMIS_ECOMPILE ? CLI_COMPILE
                                                       : CLI_FAILED);
}

void cli_log(void *payload, tamis_log_level level, const char *message)
{
    struct cli *cli = payload;
    if (level == TAMIS_LOG_WARNING)
        cli_warn(cli, "%s", message);
    else
        cli_note(cli, "%s", message);
}

void cli_json_begin(struct cli *cli, struct json *json, const char *type)
{
    tamisi_buf_clear(&cli->line);
    json_open(json, &cli->line);
    json_int(json, "schema", CLI_SCHEMA);
    json_string(json, "type", type);
}

void cli_json_end(struct cli *cli, struct json *json)
{
    json_close(json);
    if (cli->line.failed)
        cli_warn(cli, "out of memory: a line of JSON is missing");
    else
        fwrite(cli->line.data, 1, cli->line.size, stdout);
}
