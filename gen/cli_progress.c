/*
 * cli_progress.c: the progress line, the clock, and Ctrl-C. Beside cli_print.c.
 */
#define _GNU_SOURCE
#include "cli.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_SECONDS 2.0 /* between lines where stderr is no terminal */

static volatile sig_atomic_t interrupted;

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void cli_progress_clear(struct cli *cli)
{
    if (cli->progress_shown) fputs("\r\033[K", stderr);
    cli->progress_shown = false;
}

void cli_progress(struct cli *cli, long long done, long long total, const char *what)
{
    if (cli->quiet) return;
    pthread_mutex_lock(&cli->lock);
    const double now = cli_seconds();
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r\033[K[%lld/%lld] %.60s", done, total, what);
        fflush(stderr);
        cli->progress_shown = true;
    } else if (now >= cli->progress_next) {
        fprintf(stderr, "tamis: [%lld/%lld] %s\n", done, total, what);
        cli->progress_next = now + LINE_SECONDS;
    }
    pthread_mutex_unlock(&cli->lock);
}

void cli_progress_end(struct cli *cli)
{
    pthread_mutex_lock(&cli->lock);
    cli_progress_clear(cli);
    pthread_mutex_unlock(&cli->lock);
}

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void cli_catch_interrupt(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART);
    sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) { return interrupted != 0; }
