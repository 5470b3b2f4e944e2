$ -- expect: text_in_table.cu.lua:3: unexpected symbol near 'do'
$ entry{stage = "attend",
int a;
$ }
