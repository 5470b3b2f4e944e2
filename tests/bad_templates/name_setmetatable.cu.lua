$ -- expect: name_setmetatable.cu.lua:2: the template language has no "setmetatable"
$ setmetatable('x')
