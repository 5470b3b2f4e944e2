$ -- expect: use_no_table.cu.lua:2: use: no_table.lua returns no table
$ local x = use("no_table")
