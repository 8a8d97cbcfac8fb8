-- Makes nested objects flat: { a = { b = 1 } } becomes { ["a.b"] = 1 }.
--
-- A flat field that is there already is overwritten. Nested nulls are left out;
-- empty objects stay as they are, and an empty nested list becomes one. A message that would get more than
-- `max_fields` new fields is an error, and goes to the dead letters as it came.
--
-- config:
--   separator   between names; default "."
--   lists       "keep" (default) or "index": a.1, a.2, ...
--   max_depth   names that are joined; what is deeper stays nested; default 8
--   max_fields  new fields per message; default 200
--   only        list of top-level fields to flatten; default: all
--
-- [operators.flat]
-- type = "lua"
-- inputs = ["events"]
-- script = "flatten.lua"
-- config = { separator = "_", max_depth = 3 }

local M = { version = 1 }

local function add(out, name, value, config)
  if out.n >= (config.max_fields or 200) then
    error("more than " .. (config.max_fields or 200) .. " fields (config.max_fields)", 0)
  end
  out.n = out.n + 1
  out[out.n] = { name, value }
end

-- Adds what is below `value`; false when it stays as it is.
local function walk(value, path, depth, out, config)
  if depth >= (config.max_depth or 8) then return false end
  local found = false
  for k, v in pairs(value) do
    if type(k) == "number" and config.lists ~= "index" then return false end
    found = true
    local name = path .. (config.separator or ".") .. k
    if type(v) ~= "table" then
      if v ~= nil then add(out, name, v, config) end
    elseif not walk(v, name, depth + 1, out, config) then
      add(out, name, v, config)
    end
  end
  return found
end

function M.init(ctx)
  local lists = ctx.config.lists
  if lists ~= nil and lists ~= "keep" and lists ~= "index" then
    error("config.lists is \"keep\" or \"index\"", 0)
  end
  return {}
end

local function chosen(only, name)
  if only == nil then return true end
  for i = 1, #only do
    if only[i] == name then return true end
  end
  return false
end

function M.process(msg, _, ctx)
  local config, out, gone = ctx.config, { n = 0 }, {}
  for name, value in msg:fields() do
    if type(value) == "table" and chosen(config.only, name) and walk(value, name, 1, out, config) then
      gone[#gone + 1] = name
    end
  end
  -- Written when all has been read.
  for i = 1, #gone do msg[gone[i]] = nil end
  for i = 1, out.n do msg[out[i][1]] = out[i][2] end
  return msg
end

return M
