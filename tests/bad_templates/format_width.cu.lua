$ -- expect: format_width.cu.lua:2: string.format: widths and precisions have at most two digits
$ local s = string.format("%99999d", 1)
