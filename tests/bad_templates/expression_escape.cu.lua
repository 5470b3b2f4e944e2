$ -- expect: expression_escape.cu.lua:3: ${1)) while true do end entry((1} is not one Lua expression

int a = ${1)) while true do end entry((1};
