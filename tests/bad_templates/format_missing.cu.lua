$ -- expect: format_missing.cu.lua:2: bad argument #3 to 'format'
$ local s = string.format("%d %d", 1)
