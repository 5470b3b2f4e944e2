$ -- expect: global_near.cu.lua:2: the template language has no "asert"; did you mean "assert"?
$ asert(true)
