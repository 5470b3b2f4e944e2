$ -- expect: include_absolute.cu.lua:2: #include wants a quoted file name
#include "/etc/passwd"
