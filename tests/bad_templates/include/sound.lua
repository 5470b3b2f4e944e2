-- What can be used.
local sound = {}
function sound.add(a, b) return a + b end
return sound
