-- Takes personal data out of messages: fields that go, fields of which only the
-- end stays, and e-mail addresses, card numbers and the like inside texts.
--
-- It looks at the top-level fields, and into nested ones only where they are
-- named in `remove` (a nested field goes whole). Patterns find what usually
-- looks so; they are a net, not a proof: what must not leave is best removed by
-- the name of its field.
--
-- config:
--   remove   list of fields that go
--   mask     list of fields of which all but the last `keep` characters become
--            `with`; numbers are masked as text
--   keep     characters that stay of a masked field; default 0
--   with     what stands for a character; default "*"
--   find     list of what is looked for in texts: "email", "ipv4", "card"
--            (13 to 19 digits whose check digit is right), "phone" (+ and 8 to
--            15 digits); default: nothing
--   within   list of fields whose texts are searched; default: all
--   replace  what is put there, %s is its kind; default "[%s]"
--
-- [operators.private]
-- type = "lua"
-- inputs = ["orders"]
-- script = "redact.lua"
-- config = { remove = ["password"], mask = ["iban"], keep = 4, find = ["email", "card"] }

-- Whether the last of the digits is the check digit of the others (Luhn).
local function checks(digits)
  local sum, double = 0, false
  for i = #digits, 1, -1 do
    local d = digits:byte(i) - 48
    if double then
      d = d * 2
      if d > 9 then d = d - 9 end
    end
    sum, double = sum + d, not double
  end
  return sum % 10 == 0
end

local KINDS = {
  email = {
    pattern = "[%w._%+-]+@[%w-]+%.[%w.-]+",
    mark = "@",
  },
  ipv4 = {
    pattern = "%f[%d]%d+%.%d+%.%d+%.%d+%f[^%d]",
    mark = ".",
    is = function(text)
      for part in text:gmatch("%d+") do
        if #part > 3 or tonumber(part) > 255 then return false end
      end
      return true
    end,
  },
  card = {
    pattern = "%f[%d]%d[%d -]+%d%f[^%d]",
    is = function(text)
      local digits = text:gsub("[ -]", "")
      return #digits >= 13 and #digits <= 19 and checks(digits)
    end,
  },
  phone = {
    pattern = "%+%d[%d ()/-]+%d",
    mark = "+",
    is = function(text)
      local digits = text:gsub("%D", "")
      return #digits >= 8 and #digits <= 15
    end,
  },
}

local function search(text, config)
  for i = 1, #config.find do
    local kind = config.find[i]
    local how = KINDS[kind]
    if how.mark == nil or text:find(how.mark, 1, true) then
      local with = ((config.replace or "[%s]"):gsub("%%s", kind))
      text = text:gsub(how.pattern, function(found)
        if how.is == nil or how.is(found) then return with end
      end)
    end
  end
  return text
end

local function mask(value, config)
  local text = type(value) == "string" and value or tostring(value)
  -- Whole characters of UTF-8: a byte below 0x80 or above 0xBF begins one.
  local starts = {}
  for i = 1, #text do
    local b = text:byte(i)
    if b < 128 or b > 191 then starts[#starts + 1] = i end
  end
  local hidden = #starts - (config.keep or 0)
  if hidden <= 0 then hidden = #starts end
  local from = starts[hidden + 1] or #text + 1
  return (config.with or "*"):rep(hidden) .. text:sub(from)
end

local M = { version = 1 }

function M.init(ctx)
  for _, name in ipairs({ "remove", "mask", "find", "within" }) do
    local list = ctx.config[name]
    if list ~= nil and type(list) ~= "table" then error("config." .. name .. " is a list", 0) end
  end
  for _, kind in ipairs(ctx.config.find or {}) do
    if KINDS[kind] == nil then error("config.find does not know '" .. tostring(kind) .. "'", 0) end
  end
  return {}
end

function M.process(msg, _, ctx)
  local config = ctx.config
  for _, name in ipairs(config.remove or {}) do msg[name] = nil end
  for _, name in ipairs(config.mask or {}) do
    local value = msg[name]
    if type(value) == "table" then
      msg[name] = nil
    elseif value ~= nil then
      msg[name] = mask(value, config)
    end
  end
  if config.find == nil then return msg end
  local changed = {}
  if config.within then
    for _, name in ipairs(config.within) do
      local value = msg[name]
      if type(value) == "string" then changed[name] = search(value, config) end
    end
  else
    for name, value in msg:fields() do
      if type(value) == "string" then
        local after = search(value, config)
        if after ~= value then changed[name] = after end
      end
    end
  end
  for name, after in pairs(changed) do msg[name] = after end
  return msg
end

return M
