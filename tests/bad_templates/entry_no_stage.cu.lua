$ -- expect: entry_no_stage.cu.lua:2: entry: stage must be a string, is nil
$ entry{symbol = "k", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
