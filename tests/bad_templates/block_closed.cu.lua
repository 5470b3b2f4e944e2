$ -- expect: block_closed.cu.lua:2: <eof> expected near 'end'
$ end
