$ -- expect: value_function.cu.lua:2: ${type} is a function
int a = ${type};
