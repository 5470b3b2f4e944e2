$ -- expect: expression_statement.cu.lua:2: ${local x = 1} is not one Lua expression
int a = ${local x = 1};
