$ -- expect: parameter_index.cu.lua:2: p is indexed by a number
$ local x = p[1]
