$ -- expect: name_collectgarbage.cu.lua:2: the template language has no "collectgarbage"
$ collectgarbage('x')
