$ -- expect: no_entry.cu.lua:2: the template ends without an entry{}
int a;
