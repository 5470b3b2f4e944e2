$ -- expect: expression_comment.cu.lua:2: ${ without its }
int a = ${1 -- one};}
