/*
 * complete.h: what may stand where a shell's cursor is, from the commands' own tables. Layer: above cli, data and the
 * runtime's store; knows no command, main.c hands it the table of them all.
 */
#ifndef COMPLETE_H
#define COMPLETE_H

#include "cli.h"

#define COMPLETE_WORD "complete" /* tamis complete WORD...; not listed: the scripts of packaging/completion/ ask so */

/*
 * Print the candidates for the last of `words`, which follow the tool's name and are at least one; it may be "". A candidate
 * a line, with a tab and its description where it has one. A line that begins with a colon asks the shell for names itself:
 *
 *     :files .tamis    files whose names end so, and folders; ":files" alone: all files
 *     :folders         folders
 *
 * They stand for the last word, or for what follows the = of --name=value. Nothing fails: what is unknown has no candidates.
 */
int complete(const struct cli_command *tool, int count, char **words);

#endif
