$ -- expect: name_rawequal.cu.lua:2: the template language has no "rawequal"
$ rawequal('x')
