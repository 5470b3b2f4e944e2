$ -- expect: name_rawset.cu.lua:2: the template language has no "rawset"
$ rawset('x')
