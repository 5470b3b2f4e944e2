$ -- expect: entry_symbol_twice.cu.lua:3: entry: symbol "k" is declared twice
$ entry{stage = "attend", symbol = "k", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
$ entry{stage = "compress", symbol = "k", threads = 32, shared_bytes = 0, block_m = 1, block_n = 0}
