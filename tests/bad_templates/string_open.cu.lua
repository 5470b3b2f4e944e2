$ -- expect: string_open.cu.lua:2: a string or long bracket is not closed on its line
$ local s = "abc
