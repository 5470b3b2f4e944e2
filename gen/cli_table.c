/*
 * cli_table.c: tables on stdout. Beside cli_print.c.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_table_init(struct cli_table *table, const char *const *heads, int columns, unsigned right)
{
    *table = (struct cli_table){.heads = heads, .columns = columns, .right = right};
}

void cli_table_add(struct cli_table *table, const char *format, ...)
{
    if ((table->count & (table->count - 1)) == 0) { /* room grows in powers of two */
        char **grown = realloc(table->cells, (table->count ? 2 * table->count : 1) * sizeof *grown);
        table->failed = table->failed || !grown;
        if (!grown) return;
        table->cells = grown;
    }
    va_list arguments;
    va_start(arguments, format);
    char *cell = NULL;
    if (vasprintf(&cell, format, arguments) < 0) cell = NULL;
    va_end(arguments);
    table->failed = table->failed || !cell;
    if (cell) cli_make_plain(cell);
    table->cells[table->count++] = cell;
}

static void print_row(const struct cli_table *table, const char *const *cells, const int widths[CLI_TABLE_COLUMNS],
                      const char *before, const char *behind)
{
    int blanks = 0; /* owed; those at the end of a line are never paid */
    printf("%s", before);
    for (int i = 0; i < table->columns; i++) {
        const int pad = widths[i] - (int)strlen(cells[i]);
        const bool right = table->right >> i & 1u;
        if (right) blanks += pad;
        if (*cells[i]) {
            printf("%*s%s", blanks, "", cells[i]);
            blanks = 0;
        }
        blanks += (right ? 0 : pad) + 2;
    }
    printf("%s\n", behind);
}

void cli_table_print(const struct cli_table *table, struct cli *cli)
{
    int widths[CLI_TABLE_COLUMNS] = {0};
    const size_t columns = (size_t)table->columns;
    if (table->failed) {
        cli_warn(cli, "out of memory: a table is missing");
        return;
    }
    for (size_t i = 0; i < columns; i++) widths[i] = (int)strlen(table->heads[i]);
    for (size_t i = 0; i < table->count; i++) {
        const int bytes = (int)strlen(table->cells[i]);
        if (bytes > widths[i % columns]) widths[i % columns] = bytes;
    }
    cli_progress_end(cli);
    print_row(table, table->heads, widths, cli_bold(cli), cli_plain(cli));
    for (size_t i = 0; i + columns <= table->count; i += columns)
        print_row(table, (const char *const *)&table->cells[i], widths, "", "");
}

void cli_table_free(struct cli_table *table)
{
    for (size_t i = 0; i < table->count; i++) free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->count = 0;
}
