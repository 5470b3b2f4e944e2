$ -- expect: use_missing.cu.lua:2: use: include/ has no absent.lua
$ local x = use("absent")
