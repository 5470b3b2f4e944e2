$ -- expect: name_dofile.cu.lua:2: the template language has no "dofile"
$ dofile('x')
