$ -- expect: entry_threads_float.cu.lua:2: entry: threads must be an integer, is a float
$ entry{stage = "attend", symbol = "k", threads = p.head_dim / 2, shared_bytes = 0, block_m = 16, block_n = 0}
