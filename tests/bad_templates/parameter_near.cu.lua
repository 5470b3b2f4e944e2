$ -- expect: parameter_near.cu.lua:3: p has no "blok_m"; did you mean "block_m"?
// a line
int a = ${p.blok_m};
