/*
 * cli.h: what the commands of the tool share: option tables and their parser, help, messages, progress, JSON lines, exit
 * codes. Knows no command. Layer: above json, nearest and the runtime, below cmd_*.c.
 *
 * Data goes to stdout; messages, warnings and progress to stderr. With --json stdout holds one object a line and nothing
 * else; each has "schema" and "type".
 */
#ifndef CLI_H
#define CLI_H

#include "json.h"
#include "tamis.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define CLI_SCHEMA 1 /* of the JSON objects; a member that changes its meaning, or goes, needs a new number */

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_SPEC = 3,
    CLI_NO_DEVICE = 4,
    CLI_COMPILE = 5,
    CLI_NUMERICS = 6,
    CLI_PARTIAL = 7,
    CLI_INTERRUPTED = 130
};

struct cli_option {
    const char *name;  /* long, without dashes; NULL ends a table */
    char letter;       /* short; 0: none */
    const char *value; /* what help calls its value; NULL: a flag. "auto|always|never": one of these words, which are then
                          what cli_choice() takes; capitals, a kind of thing; ",..." at its end, several with commas between */
    const char *help;
};

struct cli_exit_text {
    int code;
    const char *text; /* NULL ends a table */
};

struct cli;
struct cli_command {
    const char *name; /* "gen", "spec check" */
    const char *operands;
    int operand_min, operand_max; /* max -1: any number */
    const char *summary;          /* one line */
    const char *description;
    const struct cli_option *options;
    const struct cli_exit_text *exits; /* beside 0, 1 and 2 */
    const char *examples;              /* a line each */
    int (*run)(struct cli *cli);       /* returns the exit code */
    const struct cli_command *const *children; /* "spec" has "spec check"; NULL-terminated; then run is NULL */
};

struct cli_given {
    const struct cli_option *option;
    const char *value;
};

struct cli {
    const struct cli_command *command;
    struct cli_given *given; /* in the order written */
    int given_count;
    const char **operands;
    int operand_count;
    bool help, json, quiet;
    bool color_out, color_err;
    struct tamisi_buf line; /* of the JSON object being written */
    pthread_mutex_t lock;   /* held while writing to stderr */
    bool progress_shown;    /* a progress line stands on the terminal */
    double progress_next;   /* when the next line is due where stderr is no terminal */
};

/* cli.c: reading arguments. `argv` is what follows the command's name; false: the message was printed. */
bool cli_open(struct cli *cli, const struct cli_command *command, int argc, char **argv);
int cli_close(struct cli *cli, int code); /* flushes stdout; `code`, or CLI_FAILED where that fails */

const char *cli_value(const struct cli *cli, const char *name);            /* the last one given, or NULL */
const char *cli_value_at(const struct cli *cli, const char *name, int at); /* of a repeated option; NULL past the end */
bool cli_given(const struct cli *cli, const char *name);
/* Left alone where the option is not given. False: not a number within bounds; the usage message was printed. */
bool cli_integer(struct cli *cli, const char *name, long long least, long long most, long long *out);
bool cli_real(struct cli *cli, const char *name, double least, double most, double *out);
bool cli_choice(struct cli *cli, const char *name, int *out); /* which of the words of the option's `value` */

/* Reading the tables. `letter` 0: by its long name. NULL: there is none. */
const struct cli_option *cli_find_option(const struct cli_command *command, const char *name, size_t bytes, char letter);
const struct cli_command *cli_find_command(const struct cli_command *const *among, const char *word);
const char *cli_command_word(const struct cli_command *command); /* the last of its name: "check" of "spec check" */
/* Bytes of the next word of "SPEC|STORE...", "[STORE]" or "bf16|fp16,..."; `at` moves to it. 0: no other before a blank. */
size_t cli_next_word(const char **at);

/* cli_help.c */
void cli_help(const struct cli *cli);
extern const struct cli_option cli_common_options[]; /* of every command */

/* cli_print.c: messages. `format` makes one line without a newline. */
__attribute__((format(printf, 2, 3))) void cli_print(struct cli *cli, const char *format, ...); /* to stdout, as it is */
__attribute__((format(printf, 2, 3))) void cli_note(struct cli *cli, const char *format, ...);  /* not with -q */
__attribute__((format(printf, 2, 3))) void cli_warn(struct cli *cli, const char *format, ...);
__attribute__((format(printf, 3, 4))) int cli_error(struct cli *cli, int code, const char *format, ...); /* code */
/* With a compiler's log or the like: several lines, NULL or "" for none. */
__attribute__((format(printf, 4, 5))) int cli_error_detail(struct cli *cli, int code, const char *detail,
                                                           const char *format, ...);
__attribute__((format(printf, 2, 3))) int cli_usage(struct cli *cli, const char *format, ...); /* CLI_USAGE */
int cli_fail(struct cli *cli, tamis_status status);    /* the thread's last error; the exit code for it */
int cli_fail_as(struct cli *cli, int code);            /* the same with a given code */
void cli_log(void *cli, tamis_log_level level, const char *message); /* a tamis_log_fn */

/* What would move a terminal's cursor or end a line, of names and of files' content, becomes a question mark. */
void cli_make_plain(char *text);

const char *cli_bold(const struct cli *cli);  /* for stdout; "" without colour */
const char *cli_plain(const struct cli *cli); /* ends it */

/* One JSON object: begin, members, end. */
void cli_json_begin(struct cli *cli, struct json *json, const char *type);
void cli_json_end(struct cli *cli, struct json *json);

/* cli_progress.c: one line that is rewritten on a terminal, else a line every few seconds. Any thread. */
void cli_progress(struct cli *cli, long long done, long long total, const char *what);
void cli_progress_clear(struct cli *cli); /* lock held; before other text */
void cli_progress_end(struct cli *cli);
double cli_seconds(void); /* monotonic */

/*
 * cli_file.c: `text` as the file `path`, as a whole or not at all: what was there stays until it is. Rights stay, and a link
 * still points to it. A pipe or a terminal is written as it is; a store is never replaced. The exit code, the message printed.
 */
int cli_write_file(struct cli *cli, const char *path, const struct tamisi_buf *text);
/*
 * All of a file or pipe, or of stdin for "-", behind what `out` holds, with a zero at its end. More than `most` bytes are
 * TAMIS_EINVAL, "path: is larger than `most_text`"; else TAMIS_ENOTFOUND, TAMIS_EIO or TAMIS_ENOMEM.
 */
tamis_status cli_read_file(struct tamisi_buf *out, const char *path, size_t most, const char *most_text);

/* Ctrl-C: the first only sets the flag, the second ends the process. */
void cli_catch_interrupt(void);
bool cli_interrupted(void);

/* cli_table.c: rows of text under heads; columns as wide as they must be. */
#define CLI_TABLE_COLUMNS 20
struct cli_table {
    const char *const *heads;
    int columns;
    unsigned right; /* a bit a column: its cells end at one edge */
    char **cells;
    size_t count; /* of cells */
    bool failed;
};
void cli_table_init(struct cli_table *table, const char *const *heads, int columns, unsigned right);
__attribute__((format(printf, 2, 3))) void cli_table_add(struct cli_table *table, const char *format, ...); /* a cell */
void cli_table_print(const struct cli_table *table, struct cli *cli);
void cli_table_free(struct cli_table *table);

#endif
