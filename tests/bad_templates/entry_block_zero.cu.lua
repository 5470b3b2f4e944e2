$ -- expect: entry_block_zero.cu.lua:2: entry: block_m must be 1 to 1048576, is 0
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_m = 0, block_n = 0}
