$ -- expect: tostring_table.cu.lua:2: bad argument #1 to 'tostring' (only strings, numbers, booleans and nil have a text)
$ local s = tostring(p)
