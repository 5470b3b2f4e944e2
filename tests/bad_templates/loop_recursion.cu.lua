$ -- expect: loop_recursion.cu.lua:2: 
$ local function again() return 1 + again() end
$ again()
