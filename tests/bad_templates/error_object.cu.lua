$ -- expect: error_object.cu.lua:2: bad argument #1 to 'error' (string expected, got table)
$ error({})
