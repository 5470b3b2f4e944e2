/*
 * child.h: running a test's body in a process of its own: what is opened once a process can be opened anew, with another
 * environment, whether or not Check itself forks. Inside the body expectations are child_expect's, not Check's.
 */
#ifndef CHILD_H
#define CHILD_H

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* In a body: unless `holds`, report and end the process. */
__attribute__((format(printf, 2, 3))) void child_expect(bool holds, const char *format, ...);

/* Run `body` in a child; fails the test with the child's report unless it ends well. Leaks are looked for at its exit. */
void child_run(void (*body)(const void *), const void *argument);

#endif
