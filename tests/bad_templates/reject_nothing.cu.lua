$ -- expect: reject_nothing.cu.lua:2: bad argument #1 to 'reject' (string expected, got no value)
$ reject()
