$ -- expect: use_error.cu.lua:2: fails.lua:3: not today
$ local x = use("fails")
