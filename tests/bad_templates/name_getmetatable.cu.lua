$ -- expect: name_getmetatable.cu.lua:2: the template language has no "getmetatable"
$ getmetatable('x')
