$ -- expect: name_print.cu.lua:2: the template language has no "print"
$ print('x')
