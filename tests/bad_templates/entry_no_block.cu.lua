$ -- expect: entry_no_block.cu.lua:2: entry: block_m must be an integer, is nil
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_n = 0}
