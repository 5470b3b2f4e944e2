$ -- expect: name_loadfile.cu.lua:2: the template language has no "loadfile"
$ loadfile('x')
