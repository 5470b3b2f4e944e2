$ -- expect: use_member.cu.lua:2: sound has no "abs"; there are: add
$ local x = use("sound").abs(1, 2)
