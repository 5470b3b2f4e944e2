$ -- expect: use_text.cu.lua:2: bad argument #1 to 'use'
$ local x = use({})
