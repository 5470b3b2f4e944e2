$ -- expect: block_open.cu.lua:4: 'end' expected (to close 'for' at line 2) near <eof>
$ for i = 1, 2 do
int a;
