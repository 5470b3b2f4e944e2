/*
 * child.c: a test's body in a process of its own.
 */
#define _POSIX_C_SOURCE 200809L

#include "child.h"

#include <stdarg.h>
#include <sys/wait.h>

static int child_pipe[2]; /* from the child, which writes its report, to the test */

void child_expect(bool holds, const char *format, ...)
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

void child_run(void (*body)(const void *), const void *argument)
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
