$ -- expect: entry_threads_text.cu.lua:2: entry: threads must be an integer, is string
$ entry{stage = "attend", symbol = "k", threads = "32", shared_bytes = 0, block_m = 16, block_n = 0}
