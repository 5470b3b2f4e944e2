$ -- expect: name_table.cu.lua:2: the template language has no "table"
$ local x = table.x
