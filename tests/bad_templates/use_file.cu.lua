$ -- expect: use_file.cu.lua:2: opens.lua:1: the template language has no "io"
$ local x = use("opens")
