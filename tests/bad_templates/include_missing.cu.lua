$ -- expect: include_missing.cu.lua:2: #include "absent.cuh": neither include/ nor the runtime's folder has it
#include "absent.cuh"
