$ -- expect: line_number.cu.lua:2: bad argument #1 to '_emit' (no such line)
$ _emit(1 << 40)
