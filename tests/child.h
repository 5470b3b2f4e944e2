/*
 * child.h: running a test's body in a process of its own: what is opened once a process can be opened anew, with another
 * environment, whether or not Check itself forks. Inside the body expectations are child_expect's, not Check's.
 */
#ifndef CHILD_H
#define CHILD_H

#include <check.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int child_pipe[2];

/* In a body: unless `holds`, report and end the process. */
__attribute__((format(printf, 2, 3))) static inline void child_expect(bool holds, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    if (holds) return;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    const size_t bytes = length < (int)sizeof text ? (size_t)length : sizeof text - 1;
    if (write(child_pipe[1], text, bytes) < 0) _exit(2);
    _exit(1);
}

/* Run `body` in a child; fails the test with the child's report unless it ends well. Leaks are looked for at its exit. */
static inline void child_run(void (*body)(const void *), const void *argument)
{
    char text[2049];
    size_t bytes = 0;
    int status = 0;
    fflush(NULL); /* or both processes write what is buffered */
    ck_assert_int_eq(pipe(child_pipe), 0);
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        close(child_pipe[0]);
        body(argument);
        exit(0);
    }
    close(child_pipe[1]);
    for (ssize_t got; bytes < sizeof text - 1 && (got = read(child_pipe[0], text + bytes, sizeof text - 1 - bytes)) > 0;)
        bytes += (size_t)got;
    text[bytes] = '\0';
    close(child_pipe[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "%s (status 0x%x)", bytes > 0 ? text : "the child ended badly", status);
}

#endif
