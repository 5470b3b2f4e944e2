$ -- expect: include_more.cu.lua:2: #include "system.cuh": something follows the name
#include "system.cuh" int a;
