$ -- expect: include_path.cu.lua:2: #include wants a quoted file name
#include "../spec.h"
