$ -- expect: name_utf8.cu.lua:2: the template language has no "utf8"
$ local x = utf8.x
