$ -- expect: loop_goto.cu.lua:4: the template runs without end
$ local i = 0
$ ::again::
$ i = i + 1; goto again
