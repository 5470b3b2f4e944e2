$ -- expect: contract.cu.lua:2: block_m must be at most 32
$ assert(p.block_m <= 32, "block_m must be at most 32")
