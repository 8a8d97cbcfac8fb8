-- Hardens what all code of a state shares, and builds the environment of an
-- operator: a whitelist. Runs once per state, after the prelude.
--
-- Absent on purpose: io, os beyond the clock, debug, package, load and its kin
-- (the `require` of scripts is script.lua's, and finds what Rust hands it), coroutine, getfenv and setfenv, raw access, newproxy (its
-- finalisers run where no hook can stop them), string.dump.
local limits = ...
local string_meta = getmetatable("")
local raw_rep, raw_setmetatable, raw_getmetatable = string.rep, setmetatable, getmetatable
local pcall, type, error, next = pcall, type, error, next

string.dump = nil
newproxy = nil
string_meta.__metatable = false

-- A C function cannot be interrupted: what it may allocate is bounded here.
string.rep = function(s, n, sep)
  local size = #s * n + (sep and #sep * n or 0)
  if size > limits.rep_bytes then error("string.rep: the result is too large", 2) end
  return raw_rep(s, n, sep)
end

local function pick(from, names)
  local t = {}
  for _, name in ipairs(names) do t[name] = from[name] end
  return t
end

-- The functions with patterns are strings.lua's, here and for methods.
local own_string = pick(string, limits.libraries.string)
for name, f in next, limits.strings do own_string[name] = f end

-- The strings' methods reach this table through `("x"):name()`: it holds
-- nothing but the whitelist, and it is not the table that a user may change.
string_meta.__index = own_string

local own = { string = own_string, utf8 = limits.utf8 }

local S = {}
function S.env()
  local env = pick(_G, limits.base)
  for name, members in next, limits.libraries do
    env[name] = pick(own[name] or _G[name], members)
  end
  env._VERSION = _VERSION
  env.null, env.list = limits.null, limits.list
  env.setmetatable = function(t, meta)
    if type(t) ~= "table" then error("setmetatable: table expected", 2) end
    return raw_setmetatable(t, meta)
  end
  env.getmetatable = function(t)
    if type(t) ~= "table" then return nil end
    return raw_getmetatable(t)
  end
  -- The handler runs after the error is caught, not inside the error: there
  -- no hook would stop it.
  env.xpcall = function(f, handler, ...)
    local function pack(ok, ...)
      if ok then return true, ... end
      return false, handler(...)
    end
    return pack(pcall(f, ...))
  end
  env._G = env
  return env
end
return S
