$ -- expect: name_require.cu.lua:2: the template language has no "require"
$ require('x')
