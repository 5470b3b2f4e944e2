$ -- expect: include_digraph.cu.lua:2: #include <...>: generated code is self-contained
%:include </etc/passwd>
