$ -- expect: memory_table.cu.lua:4: the template needs more than its 65536 KB of memory
$ local t = {}
$ for i = 1, 1 << 40 do
$   t[i] = {i}
$ end
