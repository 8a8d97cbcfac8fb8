-- The library utf8 as Lua 5.3 has it, compiled by LuaJIT: so a long text can
-- be stopped by the limit of time like everything else.
local byte, char, concat = string.byte, string.char, table.concat
local type, error, tonumber, select, floor = type, error, tonumber, select, math.floor

local U = { charpattern = "[%z\1-\127\194-\244][\128-\191]*" }

local function text(s, name)
  local t = type(s)
  if t == "string" then return s end
  if t == "number" then return s .. "" end
  error("bad argument #1 to '" .. name .. "' (string expected, got " .. t .. ")", 3)
end

local function whole(v, default, argument, name)
  if v == nil then return default end
  local n = tonumber(v)
  if n == nil or n ~= floor(n) then
    error("bad argument #" .. argument .. " to '" .. name .. "' (integer expected)", 3)
  end
  return n
end

local function from_end(i, len)
  if i >= 0 then return i end
  if -i > len then return 0 end
  return len + i + 1
end

-- The code at byte i and the bytes that it takes; nil where there is none.
-- Surrogates are let through, as in 5.3; what is longer than need be is not.
local function decode(s, i)
  local a = byte(s, i)
  if a == nil then return nil end
  if a < 0x80 then return a, 1 end
  if a < 0xC2 or a > 0xF4 then return nil end
  local b = byte(s, i + 1)
  if b == nil or b < 0x80 or b > 0xBF then return nil end
  if a < 0xE0 then return (a - 0xC0) * 64 + b - 0x80, 2 end
  local c = byte(s, i + 2)
  if c == nil or c < 0x80 or c > 0xBF then return nil end
  if a < 0xF0 then
    local code = ((a - 0xE0) * 64 + b - 0x80) * 64 + c - 0x80
    if code < 0x800 then return nil end
    return code, 3
  end
  local d = byte(s, i + 3)
  if d == nil or d < 0x80 or d > 0xBF then return nil end
  local code = (((a - 0xF0) * 64 + b - 0x80) * 64 + c - 0x80) * 64 + d - 0x80
  if code < 0x10000 or code > 0x10FFFF then return nil end
  return code, 4
end

local function encode(code)
  if code < 0x80 then return char(code) end
  local last = 0x80 + code % 64
  code = floor(code / 64)
  if code < 0x20 then return char(0xC0 + code, last) end
  local middle = 0x80 + code % 64
  code = floor(code / 64)
  if code < 0x10 then return char(0xE0 + code, middle, last) end
  return char(0xF0 + floor(code / 64), 0x80 + code % 64, middle, last)
end

function U.char(...)
  local parts = { ... }
  for i = 1, select("#", ...) do
    local code = whole(parts[i], -1, i, "char")
    if code < 0 or code > 0x10FFFF then
      error("bad argument #" .. i .. " to 'char' (value out of range)", 2)
    end
    parts[i] = encode(code)
  end
  return concat(parts)
end

function U.len(s, i, j)
  s = text(s, "len")
  local at = from_end(whole(i, 1, 2, "len"), #s)
  local last = from_end(whole(j, -1, 3, "len"), #s)
  if at < 1 or at > #s + 1 then error("bad argument #2 to 'len' (initial position out of string)", 2) end
  if last > #s then error("bad argument #3 to 'len' (final position out of string)", 2) end
  local count = 0
  while at <= last do
    local code, bytes = decode(s, at)
    if code == nil then return nil, at end
    at = at + bytes
    count = count + 1
  end
  return count
end

function U.codepoint(s, i, j)
  s = text(s, "codepoint")
  local at = from_end(whole(i, 1, 2, "codepoint"), #s)
  local last = from_end(whole(j, at, 3, "codepoint"), #s)
  if at < 1 then error("bad argument #2 to 'codepoint' (out of range)", 2) end
  if last > #s then error("bad argument #3 to 'codepoint' (out of range)", 2) end
  if last - at >= 7000 then error("string slice too long", 2) end
  local codes, count = {}, 0
  while at <= last do
    local code, bytes = decode(s, at)
    if code == nil then error("invalid UTF-8 code", 2) end
    count = count + 1
    codes[count] = code
    at = at + bytes
  end
  return unpack(codes, 1, count)
end

local function continues(s, i)
  local b = byte(s, i)
  return b ~= nil and b >= 0x80 and b <= 0xBF
end

function U.offset(s, n, i)
  s = text(s, "offset")
  n = whole(n, nil, 2, "offset")
  if n == nil then error("bad argument #2 to 'offset' (number expected, got no value)", 2) end
  local at = from_end(whole(i, n >= 0 and 1 or #s + 1, 3, "offset"), #s)
  if at < 1 or at > #s + 1 then error("bad argument #3 to 'offset' (position out of range)", 2) end
  if n == 0 then
    while at > 1 and continues(s, at) do at = at - 1 end
    return at
  end
  if continues(s, at) then error("initial position is a continuation byte", 2) end
  if n < 0 then
    while n < 0 and at > 1 do
      repeat at = at - 1 until at <= 1 or not continues(s, at)
      n = n + 1
    end
  else
    n = n - 1
    while n > 0 and at <= #s do
      repeat at = at + 1 until not continues(s, at)
      n = n - 1
    end
  end
  if n == 0 then return at end
  return nil
end

local function step(s, at)
  if at > 0 then
    -- Behind the character that was there.
    repeat at = at + 1 until not continues(s, at)
  else
    at = 1
  end
  if at > #s then return nil end
  local code, bytes = decode(s, at)
  if code == nil or continues(s, at + bytes) then error("invalid UTF-8 code", 2) end
  return at, code
end
function U.codes(s) return step, text(s, "codes"), 0 end
return U
