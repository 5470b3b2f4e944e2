$ -- expect: entry_many.cu.lua:6: more than 4 entries
$ entry{stage = "attend", symbol = "k0", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "compress", symbol = "k1", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "decompress", symbol = "k2", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "score_sum", symbol = "k3", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "score_merge", symbol = "k4", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
