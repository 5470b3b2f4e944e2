$ -- expect: name_package.cu.lua:2: the template language has no "package"
$ local x = package.x
