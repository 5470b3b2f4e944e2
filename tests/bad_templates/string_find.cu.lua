$ -- expect: string_find.cu.lua:2: string has no "find"
$ local s = string.find("aaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "a*a*a*a*a*a*a*a*c")
