$ -- expect: math_random.cu.lua:2: math has no "random"
$ local x = math.random()
