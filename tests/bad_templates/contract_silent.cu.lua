$ -- expect: contract_silent.cu.lua:2: an assertion failed
$ assert(p.block_m <= 32)
