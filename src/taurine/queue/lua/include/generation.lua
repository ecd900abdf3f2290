-- Generations: a job that the layer above runs again keeps its id, and says in the member `taurine` of its options which run of it this is.

-- 0 for options without the member, and for those that cannot be read.
local function generationIn(opts)
  local sound, decoded = pcall(cjson.decode, opts or '')
  local member = sound and type(decoded) == 'table' and decoded.taurine
  local generation = type(member) == 'table' and member.g
  return type(generation) == 'number' and generation or 0
end
