$ -- expect: memory_interpolated.cu.lua:5: the template needs more than its 65536 KB of memory
$ local s = "x"
$ for i = 1, 22 do s = s .. s end
$ for i = 1, 1 << 20 do
${s .. i .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s .. s}
$ end
