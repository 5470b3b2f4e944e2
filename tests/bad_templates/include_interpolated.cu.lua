$ -- expect: include_interpolated.cu.lua:3: an #include cannot be put together by ${}
$ local name = "system"
#include "${name}.cuh"
