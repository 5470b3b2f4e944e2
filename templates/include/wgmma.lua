-- wgmma.lua: the function around a warpgroup's product, whose operands are as many as its columns need and have no shorter way
-- to be written.
local wgmma = {}

-- "%4, %5": `count` operands from number `first`.
local function operands(first, count)
    local text = "%" .. first
    for i = first + 1, first + count - 1 do text = text .. ", %" .. i end
    return text
end

-- "+f"(s[0]), "+f"(s[1]): `count` elements of s from `first`, each read and written.
local function outputs(first, count)
    local text = ""
    for i = first, first + count - 1 do text = text .. (i > first and ", " or "") .. "\"+f\"(s[" .. i .. "])" end
    return text
end

-- The lines of the function `name`: S = A B^T or S += A B^T, as it is told, of 64 rows and `columns` columns, 16 deep, on
-- operands of `type`, bf16 or f16. A and B are descriptors of rows in shared memory; with `registers` A is four words of each
-- thread. With `adds` it is S += A B always, of a B whose rows are the depth, as V's are.
function wgmma.product(of)
    local count, words = of.columns // 2, of.registers and 4 or 1
    local a, b, accumulate = operands(count, words), count + words, count + words + 1
    local scale, transposes = of.adds and "1" or "accumulate", of.adds and "1" or "0"
    if of.registers then
        a = "{" .. a .. "}"
    else
        transposes = "0, " .. transposes -- A's, then B's
    end
    local lines = {}
    local function line(text) lines[#lines + 1] = text end
    local function code(text) line("                 \"" .. text .. "\"") end

    line("__device__ __forceinline__ void " .. of.name .. "(float (&s)[" .. count .. "], " ..
        (of.registers and "const unsigned *a" or "unsigned long long a") .. ", unsigned long long b" ..
        (of.adds and "" or ", int accumulate") .. ")")
    line("{")
    line("    asm volatile(\"{\\n\"")
    if not of.adds then
        code(".reg .pred accumulate;\\n")
        code("setp.ne.b32 accumulate, %" .. accumulate .. ", 0;\\n")
    end
    code("wgmma.mma_async.sync.aligned.m64n" .. of.columns .. "k16.f32." .. of.type .. "." .. of.type .. " {")
    for i = 0, count - 1, 8 do code(operands(i, math.min(8, count - i)) .. (i + 8 < count and ", " or "")) end
    code("}, " .. a .. ", %" .. b .. ", " .. scale .. ", 1, 1, " .. transposes .. ";\\n")
    code("}")
    for i = 0, count - 1, 8 do
        line("                 " .. (i == 0 and ": " or ", ") .. outputs(i, math.min(8, count - i)))
    end
    line("                 : " .. (of.registers and "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])" or "\"l\"(a)") ..
        ", \"l\"(b)" .. (of.adds and "" or ", \"r\"(accumulate)") .. ");")
    line("}")
    return lines
end

return wgmma
