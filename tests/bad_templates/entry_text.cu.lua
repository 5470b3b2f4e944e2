$ -- expect: entry_text.cu.lua:2: bad argument #1 to 'entry' (table expected, got string)
$ entry("attend")
