$ -- expect: include_next.cu.lua:2: #include wants a quoted file name
#include_next "ptx.cuh"
