$ -- expect: entry_symbol.cu.lua:2: entry: symbol "2fast" is no C identifier
$ entry{stage = "attend", symbol = "2fast", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
