$ -- expect: use_changed.cu.lua:2: sound cannot be changed (assigning "add")
$ use("sound").add = 1
