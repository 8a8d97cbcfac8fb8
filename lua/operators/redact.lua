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

-- What the replacement looks at: one function for all, instead of a new one
-- for each text.
local is, with
local function replacement(found)
  if is == nil or is(found) then return with end
end

local function search(text, rules)
  for i = 1, #rules.find do
    local rule = rules.find[i]
    if rule.mark == nil or text:find(rule.mark, 1, true) then
      is, with = rule.is, rule.with
      text = text:gsub(rule.pattern, replacement)
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

-- The settings as lists that are always there.
local function prepare(config)
  local rules = { find = {}, within = config.within }
  for _, name in ipairs({ "remove", "mask", "find", "within" }) do
    local list = config[name]
    if list ~= nil and type(list) ~= "table" then error("config." .. name .. " is a list", 0) end
  end
  rules.remove, rules.mask = config.remove or {}, config.mask or {}
  for i, kind in ipairs(config.find or {}) do
    local how = KINDS[kind]
    if how == nil then error("config.find does not know '" .. tostring(kind) .. "'", 0) end
    local text = ((config.replace or "[%s]"):gsub("%%s", kind))
    rules.find[i] = { pattern = how.pattern, mark = how.mark, is = how.is, with = text }
  end
  return rules
end

local M = { version = 1 }
local rules

-- Only to find mistakes when the script is loaded; rules are no state.
function M.init(ctx)
  prepare(ctx.config)
  return {}
end

local function within(msg)
  for i = 1, #rules.within do
    local name = rules.within[i]
    local value = msg[name]
    if type(value) == "string" then msg[name] = search(value, rules) end
  end
  return msg
end

function M.process(msg, _, ctx)
  rules = rules or prepare(ctx.config)
  for i = 1, #rules.remove do msg[rules.remove[i]] = nil end
  for i = 1, #rules.mask do
    local name = rules.mask[i]
    local value = msg[name]
    if type(value) == "table" then
      msg[name] = nil
    elseif value ~= nil then
      msg[name] = mask(value, ctx.config)
    end
  end
  if #rules.find == 0 then return msg end
  if rules.within then return within(msg) end
  -- Written when all has been read.
  local names, texts, n = {}, {}, 0
  for name, value in msg:fields() do
    if type(value) == "string" then
      local after = search(value, rules)
      if after ~= value then
        n = n + 1
        names[n], texts[n] = name, after
      end
    end
  end
  for i = 1, n do msg[names[i]] = texts[i] end
  return msg
end

return M
