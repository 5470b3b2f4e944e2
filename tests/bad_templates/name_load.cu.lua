$ -- expect: name_load.cu.lua:2: the template language has no "load"
$ load('x')
