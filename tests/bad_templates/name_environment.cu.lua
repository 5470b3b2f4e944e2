$ -- expect: name_environment.cu.lua:2: the template language cannot be changed (assigning "pairs")
$ _ENV.pairs = 1
