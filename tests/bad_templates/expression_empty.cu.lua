$ -- expect: expression_empty.cu.lua:2: ${} is not one Lua expression
int a = ${};
