$ -- expect: entry_symbol_long.cu.lua:2: entry: symbol is longer than 95 characters
$ entry{stage = "attend", symbol = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
