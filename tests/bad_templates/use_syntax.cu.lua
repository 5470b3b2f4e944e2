$ -- expect: use_syntax.cu.lua:2: syntax.lua:2: 
$ local x = use("syntax")
