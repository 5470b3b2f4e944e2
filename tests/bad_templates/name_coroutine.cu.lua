$ -- expect: name_coroutine.cu.lua:2: the template language has no "coroutine"
$ local x = coroutine.x
