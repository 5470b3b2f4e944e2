$ -- expect: loop_text.cu.lua:3: the output is larger than 8 MB
$ while true do
int filler_that_never_ends = 0; // a line that repeats until the output is too large to be believed, and on
$ end
