$ -- expect: line_taken.cu.lua:2: attempt to assign to const variable '_emit'
$ _emit = nil
