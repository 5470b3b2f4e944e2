$ -- expect: format_pointer.cu.lua:2: string.format: a conversion must be one of
$ local s = string.format("%p", {})
