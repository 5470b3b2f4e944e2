local x = {
end
