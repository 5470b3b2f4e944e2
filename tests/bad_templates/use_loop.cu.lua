$ -- expect: use_loop.cu.lua:2: the template runs without end
$ local x = use("endless")
