$ -- expect: string_change.cu.lua:2: string cannot be changed (assigning "upper")
$ string.upper = string.lower
