$ -- expect: entry_shared_negative.cu.lua:2: entry: shared_bytes must be 0 to 1073741824, is -1
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = -1, block_m = 16, block_n = 0}
