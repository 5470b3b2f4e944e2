$ -- expect: value_table.cu.lua:2: ${{}} is a table
int a = ${{}};
