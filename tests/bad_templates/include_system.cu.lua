$ -- expect: include_system.cu.lua:2: #include <...>: generated code is self-contained
#include <cuda_fp16.h>
