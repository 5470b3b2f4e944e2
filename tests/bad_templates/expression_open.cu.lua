$ -- expect: expression_open.cu.lua:2: ${ without its }
int a = ${p.head_dim;
