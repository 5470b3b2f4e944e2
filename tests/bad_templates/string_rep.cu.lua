$ -- expect: string_rep.cu.lua:2: string has no "rep"
$ local s = ("x"):rep(1 << 30)
