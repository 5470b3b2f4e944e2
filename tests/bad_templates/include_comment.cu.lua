$ -- expect: include_comment.cu.lua:2: #include wants a quoted file name
/* */ #include "system.cuh"
