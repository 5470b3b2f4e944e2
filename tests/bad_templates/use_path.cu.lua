$ -- expect: use_path.cu.lua:2: use: a file is named by letters, digits and _
$ local x = use("../include/sound")
