$ -- expect: name_io.cu.lua:2: the template language has no "io"
$ local x = io.x
