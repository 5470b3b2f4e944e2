-- asm.lua: lists of operands for inline assembly on arrays of registers, which have no other way to be written at length.
local asm = {}

-- "%4, %5, ": `count` operands from number `first`.
function asm.operands(first, count)
    local text = ""
    for i = first, first + count - 1 do text = text .. "%" .. i .. ", " end
    return text
end

-- "+f"(s[0]), "+f"(s[1]): `count` floats of an array from element `first`, each read and written.
function asm.outputs(name, first, count)
    local text = ""
    for i = first, first + count - 1 do
        text = text .. (i > first and ", " or "") .. "\"+f\"(" .. name .. "[" .. i .. "])"
    end
    return text
end

return asm
