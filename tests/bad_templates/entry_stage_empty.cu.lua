$ -- expect: entry_stage_empty.cu.lua:2: entry: "" is no stage that the runtime launches
$ entry{stage = "", symbol = "k", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
