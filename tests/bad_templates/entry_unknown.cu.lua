$ -- expect: entry_unknown.cu.lua:2: entry has no field "thread"; there are: stage, symbol, threads
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0, thread = 1}
