$ -- expect: loop.cu.lua:2: the template runs without end
$ while true do end
