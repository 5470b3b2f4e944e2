$ -- expect: use_itself.cu.lua:2: C stack overflow
$ local x = use("itself")
