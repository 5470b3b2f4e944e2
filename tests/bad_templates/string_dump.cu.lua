$ -- expect: string_dump.cu.lua:2: string has no "dump"
$ local s = string.dump(entry)
