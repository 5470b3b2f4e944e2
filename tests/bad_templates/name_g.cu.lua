$ -- expect: name_g.cu.lua:2: the template language has no "_G"
$ local x = _G.x
