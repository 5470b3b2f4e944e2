$ -- expect: entry_threads_odd.cu.lua:2: entry: threads must be a multiple of 32, is 48
$ entry{stage = "attend", symbol = "k", threads = 48, shared_bytes = 0, block_m = 16, block_n = 0}
