$ -- expect: name_os.cu.lua:2: the template language has no "os"
$ local x = os.x
