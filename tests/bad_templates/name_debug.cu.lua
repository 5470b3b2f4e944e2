$ -- expect: name_debug.cu.lua:2: the template language has no "debug"
$ local x = debug.x
