$ -- expect: use_bytecode.cu.lua:2: attempt to load a binary chunk
$ local x = use("bytecode")
