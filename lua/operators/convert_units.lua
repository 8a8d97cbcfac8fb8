-- Converts fields from one unit to another.
--
-- A field that is absent is left alone; one that is no number is an error, and
-- the message goes to the dead letters. Whether units are known and go together
-- is found when the script is loaded, so by `ringmain check`.
--
-- config:
--   convert   list of tables, required, each with
--     field     the field
--     from, to  units, see below
--     into      where the result goes; default: the field itself. Otherwise the
--               field stays, unless `drop` is true.
--     drop      remove the field when the result goes elsewhere; default false
--     decimals  rounds to so many; default: not rounded
--
-- Units:
--   temperature  C F K               length    m mm cm km in ft yd mi
--   speed        m/s km/h mph kn     mass      kg g t lb oz
--   pressure     Pa hPa kPa bar psi  energy    J kJ MJ Wh kWh
--   rotation     Hz rpm rad/s        volume    m3 l ml gal
--   time         s ms us min h d     data      B kB KiB MB MiB GB GiB bit
--
-- [operators.metric]
-- type = "lua"
-- inputs = ["sensors"]
-- script = "convert_units.lua"
-- config = { convert = [{ field = "temp_f", from = "F", to = "C", into = "temp_c", decimals = 1 }] }

-- Factor to the kind's base unit, and what is added after it.
local KINDS = {
  temperature = { K = 1, C = { 1, 273.15 }, F = { 5 / 9, 273.15 - 32 * 5 / 9 } },
  length = {
    m = 1, mm = 1e-3, cm = 1e-2, km = 1e3, ["in"] = 0.0254, ft = 0.3048, yd = 0.9144, mi = 1609.344,
  },
  speed = { ["m/s"] = 1, ["km/h"] = 1 / 3.6, mph = 0.44704, kn = 1852 / 3600 },
  mass = { kg = 1, g = 1e-3, t = 1e3, lb = 0.45359237, oz = 0.028349523125 },
  pressure = { Pa = 1, hPa = 100, kPa = 1e3, bar = 1e5, psi = 6894.757293168 },
  energy = { J = 1, kJ = 1e3, MJ = 1e6, Wh = 3600, kWh = 3.6e6 },
  rotation = { Hz = 1, rpm = 1 / 60, ["rad/s"] = 1 / (2 * math.pi) },
  volume = { m3 = 1, l = 1e-3, ml = 1e-6, gal = 0.003785411784 },
  time = { s = 1, ms = 1e-3, us = 1e-6, min = 60, h = 3600, d = 86400 },
  data = {
    B = 1, kB = 1e3, KiB = 1024, MB = 1e6, MiB = 1048576, GB = 1e9, GiB = 1073741824, bit = 0.125,
  },
}

local function kind_of(unit)
  for kind, units in pairs(KINDS) do
    if units[unit] then return kind, units[unit] end
  end
  error("config.convert: unknown unit '" .. tostring(unit) .. "'", 0)
end

local function scale(unit)
  if type(unit) == "table" then return unit[1], unit[2] end
  return unit, 0
end

-- value * factor + offset does it.
local function rule(c)
  if type(c) ~= "table" or type(c.field) ~= "string" then
    error("config.convert: each entry needs a field", 0)
  end
  local from_kind, from = kind_of(c.from)
  local to_kind, to = kind_of(c.to)
  if from_kind ~= to_kind then
    error("config.convert: " .. c.from .. " is a " .. from_kind .. " and " .. c.to .. " a " .. to_kind, 0)
  end
  local a, b = scale(from)
  local x, y = scale(to)
  return {
    field = c.field, into = c.into or c.field, drop = c.drop and c.into and c.into ~= c.field,
    factor = a / x, offset = (b - y) / x, round = c.decimals and 10 ^ c.decimals,
  }
end

local function rules(config)
  if type(config.convert) ~= "table" or #config.convert == 0 then
    error("config.convert is a list of conversions", 0)
  end
  local made = {}
  for i = 1, #config.convert do made[i] = rule(config.convert[i]) end
  return made
end

local M = { version = 1 }
local made

-- Only to find mistakes when the script is loaded; a rule is no state.
function M.init(ctx)
  rules(ctx.config)
  return {}
end

function M.process(msg, _, ctx)
  made = made or rules(ctx.config)
  for i = 1, #made do
    local r = made[i]
    local value = msg[r.field]
    if value ~= nil then
      if type(value) ~= "number" then error(r.field .. " is no number but a " .. type(value)) end
      local result = value * r.factor + r.offset
      if r.round then result = math.floor(result * r.round + 0.5) / r.round end
      msg[r.into] = result
      if r.drop then msg[r.field] = nil end
    end
  end
  return msg
end

return M
