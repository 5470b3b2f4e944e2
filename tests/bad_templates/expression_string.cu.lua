$ -- expect: expression_string.cu.lua:2: ${ without its }
int a = ${"};
