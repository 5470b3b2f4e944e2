$ -- expect: global_unknown.cu.lua:2: the template language has no "blokc"; there are: assert, entry, error, ipairs, math, p, pairs, reject, select, string, tonumber, tostring, type
$ local x = blokc
