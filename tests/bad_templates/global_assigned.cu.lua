$ -- expect: global_assigned.cu.lua:2: the template language cannot be changed (assigning "width"); new names need `local`
$ width = 4
