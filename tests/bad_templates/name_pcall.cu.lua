$ -- expect: name_pcall.cu.lua:2: the template language has no "pcall"
$ pcall('x')
