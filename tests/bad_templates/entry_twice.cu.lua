$ -- expect: entry_twice.cu.lua:3: entry: stage "attend" is declared twice
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
