-- find, match, gmatch and gsub over pattern.rs: what LuaJIT's own do, in a
-- bounded number of steps, and compiled into the caller's loop.
local ffi, calls = ...
local C_search = ffi.cast("int32_t (*)(const void *, int32_t, const void *, int32_t, int32_t, int32_t, int32_t *)", calls.search)
local C_is_plain = ffi.cast("int32_t (*)(const void *, int32_t)", calls.is_plain)
local found = ffi.new("int32_t[66]")

local type, error, tostring, select = type, error, tostring, select
local sub, byte, raw_find, concat = string.sub, string.byte, string.find, table.concat
local POSITION, UNFINISHED, CARET, ESCAPE = -2, -1, 94, 37

local ERRORS = {
  "the pattern takes too long on this text",
  "pattern too complex",
  "malformed pattern (ends with '%')",
  "malformed pattern (missing ']')",
  "missing '[' after '%f' in pattern",
  "invalid pattern capture",
  "invalid capture index",
  "too many captures",
  "unbalanced pattern",
}

local function text(v, argument, name)
  local t = type(v)
  if t == "string" then return v end
  if t == "number" then return tostring(v) end
  error("bad argument #" .. argument .. " to '" .. name .. "' (string expected, got " .. (v == nil and "no value" or t) .. ")", 3)
end

local function number(v, default, argument, name)
  if v == nil then return default end
  local n = tonumber(v)
  if type(v) == "boolean" or n == nil then
    error("bad argument #" .. argument .. " to '" .. name .. "' (number expected, got " .. type(v) .. ")", 3)
  end
  -- Towards zero, as LuaJIT does.
  return n >= 0 and n - n % 1 or n + -n % 1
end

-- 1 + captures, or 0. Level 3 is the user's line.
local function search(s, p, start, anchors)
  local anchored = 0
  if anchors and byte(p, 1) == CARET then p, anchored = sub(p, 2), 1 end
  local n = C_search(s, #s, p, #p, start, anchored, found)
  if n < 0 then error(ERRORS[-n], 3) end
  return n
end

local function capture(s, i)
  local start, len = found[2 * i], found[2 * i + 1]
  if len == POSITION then return start + 1 end
  if len == UNFINISHED then error("unfinished capture", 3) end
  return sub(s, start + 1, start + len)
end
local function captures_from(s, i, n)
  if i == n then return capture(s, i) end
  return capture(s, i), captures_from(s, i + 1, n)
end
local function captures(s, n)
  if n == 1 then return capture(s, 1)
  elseif n == 2 then return capture(s, 1), capture(s, 2)
  elseif n == 3 then return capture(s, 1), capture(s, 2), capture(s, 3)
  end
  return captures_from(s, 1, n)
end
-- The captures, or the whole match where there are none.
local function results(s, n)
  if n == 1 then return sub(s, found[0] + 1, found[1]) end
  return captures(s, n - 1)
end

-- Where to begin, from 0; nil behind the end.
local function from(init, len)
  if init < 0 then init = init + len else init = init - 1 end
  if init < 0 then init = 0 end
  if init > len then return nil end
  return init
end

local PLAIN, plain_known = {}, 0
local function is_plain(p)
  local known = PLAIN[p]
  if known == nil then
    known = C_is_plain(p, #p) ~= 0
    if plain_known >= 1024 then PLAIN, plain_known = {}, 0 end
    PLAIN[p], plain_known = known, plain_known + 1
  end
  return known
end

local T = {}
function T.find(s, p, init, plain)
  s, p = text(s, 1, "find"), text(p, 2, "find")
  if plain or is_plain(p) then return raw_find(s, p, init, true) end
  local start = from(number(init, 1, 3, "find"), #s)
  if start == nil then return nil end
  local n = search(s, p, start, true)
  if n == 0 then return nil end
  if n == 1 then return found[0] + 1, found[1] end
  return found[0] + 1, found[1], captures(s, n - 1)
end

function T.match(s, p, init)
  s, p = text(s, 1, "match"), text(p, 2, "match")
  local start = from(number(init, 1, 3, "match"), #s)
  if start == nil then return nil end
  local n = search(s, p, start, true)
  if n == 0 then return nil end
  return results(s, n)
end

function T.gmatch(s, p)
  s, p = text(s, 1, "gmatch"), text(p, 2, "gmatch")
  local at = 0
  return function()
    if at > #s then return nil end
    local n = search(s, p, at, false)
    if n == 0 then
      at = #s + 1
      return nil
    end
    at = found[1]
    if found[0] == found[1] then at = at + 1 end
    return results(s, n)
  end
end

-- What `with` has for the match that was just found.
local function replacement(s, n, with, kind)
  if kind == "string" then
    local parts, count, i = {}, 0, 1
    while i <= #with do
      local b = byte(with, i)
      if b == ESCAPE then
        i = i + 1
        b = byte(with, i) or 0
        count = count + 1
        if b == 48 then parts[count] = sub(s, found[0] + 1, found[1])
        elseif b >= 49 and b <= 57 then
          local k = b - 48
          if n == 1 and k == 1 then parts[count] = sub(s, found[0] + 1, found[1])
          elseif k > n - 1 then error("invalid capture index", 3)
          else parts[count] = capture(s, k)
          end
        else parts[count] = i <= #with and sub(with, i, i) or "\0"
        end
        i = i + 1
      else
        local stop = raw_find(with, "%", i, true) or #with + 1
        count = count + 1
        parts[count] = sub(with, i, stop - 1)
        i = stop
      end
    end
    return concat(parts)
  end
  local whole = sub(s, found[0] + 1, found[1])
  local v
  if kind == "function" then v = with(results(s, n))
  else v = with[(n == 1 and whole or capture(s, 1))]
  end
  if not v then return whole end
  local t = type(v)
  if t ~= "string" and t ~= "number" then error("invalid replacement value (a " .. t .. ")", 3) end
  return v
end

function T.gsub(s, p, with, most)
  s, p = text(s, 1, "gsub"), text(p, 2, "gsub")
  local kind = type(with)
  if kind == "number" then with, kind = tostring(with), "string" end
  if kind ~= "string" and kind ~= "function" and kind ~= "table" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. (with == nil and "no value" or kind) .. ")", 2)
  end
  most = number(most, #s + 1, 4, "gsub")
  local anchored = byte(p, 1) == CARET
  local parts, count, at, times = {}, 0, 0, 0
  while times < most do
    local n = search(s, p, at, true)
    if n == 0 then break end
    times = times + 1
    local first, last = found[0], found[1]
    parts[count + 1] = sub(s, at + 1, first)
    parts[count + 2] = replacement(s, n, with, kind)
    count = count + 2
    at = last
    if first == last then
      if last >= #s then break end
      count = count + 1
      parts[count] = sub(s, last + 1, last + 1)
      at = last + 1
    end
    if anchored then break end
  end
  parts[count + 1] = sub(s, at + 1)
  return concat(parts), times
end
return T
