$ -- expect: pairs_key.cu.lua:2: pairs: keys must be strings or integers, one is a boolean
$ for k in pairs({[true] = 1}) do end
