$ -- expect: name_xpcall.cu.lua:2: the template language has no "xpcall"
$ xpcall('x')
