$ -- expect: string_gsub.cu.lua:2: string has no "gsub"
$ local s = ("x"):gsub("x", "y")
