$ -- expect: parameter_changed.cu.lua:2: p cannot be changed (assigning "block_m")
$ p.block_m = 1
