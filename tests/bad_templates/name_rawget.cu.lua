$ -- expect: name_rawget.cu.lua:2: the template language has no "rawget"
$ rawget('x')
