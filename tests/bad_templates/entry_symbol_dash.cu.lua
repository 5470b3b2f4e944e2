$ -- expect: entry_symbol_dash.cu.lua:2: entry: symbol "a-b" is no C identifier
$ entry{stage = "attend", symbol = "a-b", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
