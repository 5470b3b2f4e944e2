$ -- expect: bracket_open.cu.lua:2: a string or long bracket is not closed on its line
$ --[[ a comment that would swallow
int a;
$ ]]
