$ -- expect: memory_string.cu.lua:3: the template needs more than its 65536 KB of memory
$ local s = "0123456789abcdef"
$ while true do s = s .. s end
