$ -- expect: include_macro.cu.lua:2: #include wants a quoted file name
#include HEADER
