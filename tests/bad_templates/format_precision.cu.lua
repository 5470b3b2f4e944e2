$ -- expect: format_precision.cu.lua:2: string.format: widths and precisions have at most two digits
$ local s = string.format("%.100f", 1)
