#!/usr/bin/env python3
"""completion.py SETUP SHELL...: a shell on a terminal of its own, into which lines are typed, each with a Tab behind it.

Reads the lines from stdin and prints what each has become. SETUP is a file that the shell reads first: it loads the
completion, binds Ctrl-T to write the line as it stands into the file `line` (under another name until it is whole), and
makes the file `ready` when all is set. A shell that does not answer in 30 seconds is a failure.
"""

import os
import pty
import select
import sys
import time

TAB, CONTROL_T, CONTROL_U, RETURN = b"\t", b"\x14", b"\x15", b"\r"


class Shell:
    def __init__(self, command):
        self.said = b""
        pid, self.terminal = pty.fork()
        if pid == 0:
            os.execvp(command[0], command)

    def type(self, keys):
        os.write(self.terminal, keys)

    def wait_for(self, path):
        """Until the shell has made the file; what it says meanwhile must be read, or it stops."""
        end = time.monotonic() + 30
        while not os.path.exists(path):
            if time.monotonic() > end:
                sys.exit(f"no answer; the shell said {self.said[-1000:]!r}")
            if select.select([self.terminal], [], [], 0.01)[0]:
                try:
                    self.said += os.read(self.terminal, 65536)
                except OSError:
                    sys.exit(f"the shell is gone; it said {self.said[-1000:]!r}")


def main():
    shell = Shell(sys.argv[2:])
    shell.type(b". ./" + os.fsencode(sys.argv[1]) + RETURN)
    shell.wait_for("ready")
    for line in sys.stdin.read().splitlines():
        shell.type(line.encode() + TAB + CONTROL_T)
        shell.wait_for("line")
        with open("line", encoding="utf-8") as file:
            print(file.read().rstrip("\n") + "|")
        os.unlink("line")
        shell.type(CONTROL_U)
    shell.type(b"exit" + RETURN)


main()
