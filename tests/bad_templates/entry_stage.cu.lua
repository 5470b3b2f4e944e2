$ -- expect: entry_stage.cu.lua:2: entry: "attned" is no stage that the runtime launches
$ entry{stage = "attned", symbol = "k", threads = 32, shared_bytes = 0, block_m = 16, block_n = 0}
