$ -- expect: value_float.cu.lua:2: ${p.head_dim / 2} is a float (64.0)
int a = ${p.head_dim / 2};
