$ -- expect: file_read.cu.lua:2: the template language has no "io"
$ for line in io.lines("/etc/passwd") do
${line}
$ end
