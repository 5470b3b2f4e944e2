$ -- expect: include_smuggled.cu.lua:2: an #include cannot be put together by ${}
${"#include"} </etc/passwd>
