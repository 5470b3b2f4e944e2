$ -- expect: value_nil.cu.lua:3: ${t.x} is nil; only a string, an integer or a boolean has a text
$ local t = {}
int a = ${t.x};
