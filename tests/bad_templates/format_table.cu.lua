$ -- expect: format_table.cu.lua:2: bad argument #2 to 'format' (only strings, numbers and booleans can be formatted)
$ local s = string.format("%s", {})
