$ -- expect: string_arithmetic.cu.lua:2: attempt to perform arithmetic on a string value
$ local n = "10" + 1
