$ -- expect: error_called.cu.lua:3: no such luck
$ local function check() error("no such luck", 2) end
$ check()
