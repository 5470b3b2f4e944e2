$ -- expect: system.cuh:6: #include <...>: generated code is self-contained
#include "system.cuh"
