$ -- expect: name_loadstring.cu.lua:2: the template language has no "loadstring"
$ loadstring('x')
