$ -- expect: expression_two.cu.lua:2: ${1, 2} is not one Lua expression
int a = ${1, 2};
