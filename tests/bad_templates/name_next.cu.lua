$ -- expect: name_next.cu.lua:2: the template language has no "next"
$ next('x')
