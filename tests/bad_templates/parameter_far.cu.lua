$ -- expect: parameter_far.cu.lua:2: p has no "tile"; there are: block_m, dtype, head_dim
$ local x = p.tile
