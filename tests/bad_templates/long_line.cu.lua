$ -- expect: long_line.cu.lua:4: ${s} is too long
$ local s = "x"
$ for i = 1, 24 do s = s .. s end
int a = ${s};
