$ -- expect: entry_threads_few.cu.lua:2: entry: threads must be 32 to 1048576, is 0
$ entry{stage = "attend", symbol = "k", threads = 0, shared_bytes = 0, block_m = 16, block_n = 0}
