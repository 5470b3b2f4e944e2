$ -- expect: value_newline.cu.lua:2: ${"a\nb"} holds a line break or control character
int a = ${"a\nb"};
