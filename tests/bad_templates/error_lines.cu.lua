$ -- expect: error_lines.cu.lua:2: two lines
$ error("two\nlines")
