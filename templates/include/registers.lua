-- registers.lua: registers that a block's warpgroups share out by setmaxnreg.
local registers = {}

-- What a block of `warpgroups` is given of an SM's 65536, in registers of a thread of each: as many as all its threads can have
-- alike, in steps of 8. Who asks for more than that in all waits for ever.
function registers.given(warpgroups) return warpgroups * (65536 // (128 * warpgroups) // 8 * 8) end

return registers
