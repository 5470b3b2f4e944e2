$ -- expect: binary.cuh: holds a zero byte
#include "binary.cuh"
