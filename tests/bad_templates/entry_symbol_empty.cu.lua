$ -- expect: entry_symbol_empty.cu.lua:2: entry: symbol "" is no C identifier
$ entry{stage = "attend", symbol = "", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
