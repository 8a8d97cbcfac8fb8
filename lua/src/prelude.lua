-- The cursor over rows, and the loops over slabs. Runs with ffi, which no
-- user's code ever sees: it gets `msg`, a Lua table without a metatable to
-- reach, whose fields are read here, in place in the slab.
--
-- The structures equal those of daemon/slab/src/layout.rs and of Desc in
-- env.rs. Lua only reads rows; every write is a call into env.rs, which keeps
-- the invariants of the slab.
--
-- All numbers are below 2^31 (SLAB_BYTES_MAX is 2^28), so they are declared
-- signed: LuaJIT keeps them in integer registers. A slot's tag is read with
-- the reserved bytes behind it, which are zero.
local ffi, env_pointer, calls, set_value, set_nested, null = ...

ffi.cdef [[
typedef struct {
  int32_t tag, len;
  union { double f; int64_t i; int32_t off; };
} rm_slot;
typedef struct {
  int32_t len;
  uint16_t version, slots;
  int32_t flags;
  uint32_t key_hash;
  int64_t ts;
  rm_slot s[65];
} rm_row;
typedef struct {
  uint8_t *data;
  int32_t *index;
  rm_row *row;
  double pos, now;
  int32_t first, kept, rows, call;
  uint32_t hash;
} rm_desc;
]]

local D = ffi.cast("rm_desc *", env_pointer)
local E = ffi.cast("void *", env_pointer)
local function call_of(name, ctype) return ffi.cast(ctype, calls[name]) end
local C_num = call_of("set_num", "int32_t (*)(void *, int32_t, double)")
local C_int = call_of("set_int", "int32_t (*)(void *, int32_t, int64_t)")
local C_bool = call_of("set_bool", "int32_t (*)(void *, int32_t, int32_t)")
local C_str = call_of("set_str", "int32_t (*)(void *, int32_t, const void *, int32_t)")
local C_none = call_of("set_none", "int32_t (*)(void *, int32_t, int32_t)")
local C_resolve = call_of("resolve", "int32_t (*)(void *, const void *, int32_t)")
local C_intern = call_of("intern", "int32_t (*)(void *, const void *, int32_t)")
local C_rename = call_of("rename", "int32_t (*)(void *, int32_t, int32_t)")
local C_keep = call_of("keep", "int32_t (*)(void *)")
local C_route = call_of("route", "int32_t (*)(void *, int32_t)")
local C_parse = call_of("parse", "double (*)(const void *, int32_t)")

local cast, new, istype, copy_string = ffi.cast, ffi.new, ffi.istype, ffi.string
local type, error, pcall, rawequal, setmetatable = type, error, pcall, rawequal, setmetatable
local tonumber, tostring, next, select, concat = tonumber, tostring, next, select, table.concat
local unpack, insert, get_meta = unpack, table.insert, debug.getmetatable
local row_p = ffi.typeof("rm_row *")
local slot_p = ffi.typeof("const rm_slot *")
local bytes_p = ffi.typeof("const uint8_t *")
local int64 = ffi.typeof("int64_t")

local NULL, BOOL, INT, FLOAT, STR, BYTES, NUMBER, LIST, MAP = 1, 2, 3, 4, 5, 6, 7, 8, 9
local SLOTS_MAX = 64

-- Numbers in FIELD beyond every slot, so that the test "is it a slot of this
-- row" finds them without a test of their own.
local REST, TS, KEY, METHOD = 1000, 1001, 1002, 1003

-- Name -> slot. What is missing is asked from Rust once. MEMBER is the same
-- for `msg`, where some names mean something else.
local FIELD, MEMBER, FIELDS_ASKED = {}, {}, 0
-- Slot -> name, from 0.
local NAMES = {}
-- Fields of the flow's partition key, for msg.key.
local KEYS = {}

local CODES = {
  "there is no message outside of the call that it was given to",
  "the message needs more than [shards] memory allows",
  "a field's name is UTF-8 of at most 1024 bytes",
  "cannot store this value in a message",
  "a value is nested too deep",
  "a table is either a list (1 to n without gaps) or a map with text keys",
  "no such port",
  "a list has the places 1 to n + 1, a map has text keys",
  "the nested value is no longer part of the message",
}

---------------------------------------------------------------- nested values
-- A proxy of a list or a map is an empty table; what it stands for is kept
-- aside, where its holder cannot reach it. It is good for its message only:
-- pos and call name the message. It stands for a place in it: `up` is the value
-- that it was read from and `key` its name there; of a field, `key` is its slot,
-- or its name beyond the slots.
local NODES = setmetatable({}, { __mode = "k" })
local NODE = { __metatable = false }
-- Counts assignments inside of nested values: each builds the row anew.
local WRITES = 0

-- What `list` and copies of lists carry, so that an empty one stays a list.
local LIST_META = { __metatable = false }

local function base_of(row) return tonumber(cast("intptr_t", row) - cast("intptr_t", D.data)) end

local function node_of(row, s, up, key)
  local proxy = setmetatable({}, NODE)
  NODES[proxy] = {
    base = base_of(row), off = s.off, len = s.len, tag = s.tag, pos = D.pos, call = D.call,
    up = up, key = key, writes = WRITES,
  }
  return proxy
end

local function value_of(row, s, up, key)
  local t = s.tag
  if t == STR or t == BYTES then return copy_string(cast(bytes_p, row) + s.off, s.len)
  elseif t == INT then return tonumber(s.i)
  elseif t == FLOAT then return s.f
  elseif t == BOOL then return s.i ~= 0
  elseif t == NUMBER then return C_parse(cast(bytes_p, row) + s.off, s.len)
  elseif t == LIST or t == MAP then return node_of(row, s, up, key)
  end
  return nil
end

-- Of two entries with one name the last counts, as in every JSON reader.
local function find(row, nodes, count, name)
  for i = count - 1, 0, -1 do
    local key = nodes[2 * i]
    if key.len == #name and copy_string(cast(bytes_p, row) + key.off, key.len) == name then
      return nodes[2 * i + 1]
    end
  end
end

local function rest_of(row)
  if row.slots > SLOTS_MAX and row.s[SLOTS_MAX].tag == MAP then return row.s[SLOTS_MAX] end
end

local function nodes_of(row, s) return cast(slot_p, cast(bytes_p, row) + s.off) end

local function place(k, len) return type(k) == "number" and k >= 1 and k <= len and k % 1 == 0 end

-- Finds the place of a proxy in the row as it is now. False where there is no
-- list and no map any more.
local function locate(n)
  local row, s = D.row
  local up, key = n.up, n.key
  if up == nil then
    if type(key) == "number" then
      if key < row.slots then s = row.s[key] end
    else
      local rest = rest_of(row)
      if rest ~= nil then s = find(row, nodes_of(row, rest), rest.len, key) end
    end
  elseif locate(up) then
    local nodes = nodes_of(row, up)
    if up.tag == MAP then
      if type(key) == "string" then s = find(row, nodes, up.len, key) end
    elseif place(key, up.len) then s = nodes[key - 1]
    end
  end
  n.writes = WRITES
  if s == nil or (s.tag ~= LIST and s.tag ~= MAP) then return false end
  n.base, n.off, n.len, n.tag = base_of(row), s.off, s.len, s.tag
  return true
end

-- What is not there any more is read as it was.
local function node(proxy, level)
  local n = NODES[proxy]
  if n.pos ~= D.pos or n.call ~= D.call then error("a nested value is valid only during the call for its message", level) end
  if n.writes ~= WRITES then locate(n) end
  local row = cast(row_p, D.data + n.base)
  return n, row, nodes_of(row, n)
end

function NODE.__index(proxy, k)
  local n, row, nodes = node(proxy, 3)
  if n.tag == LIST then
    if not place(k, n.len) then return nil end
    return value_of(row, nodes[k - 1], n, k)
  end
  if type(k) ~= "string" then return nil end
  local s = find(row, nodes, n.len, k)
  if s ~= nil then return value_of(row, s, n, k) end
end
function NODE.__len(proxy) return node(proxy, 3).len end

local function node_step(proxy, i)
  i = i + 1
  local v = proxy[i]
  if v ~= nil then return i, v end
end
function NODE.__ipairs(proxy) return node_step, proxy, 0 end

function NODE.__pairs(proxy)
  local at = 0
  return function()
    local n, row, nodes = node(proxy, 2)
    if at >= n.len then return nil end
    at = at + 1
    if n.tag == LIST then return at, value_of(row, nodes[at - 1], n, at) end
    local key = nodes[2 * at - 2]
    local name = copy_string(cast(bytes_p, row) + key.off, key.len)
    return name, value_of(row, nodes[2 * at - 1], n, name)
  end
end

-- A plain table of a slot. Null becomes `null` in lists, where it has a place
-- to keep, and in maps where the copy is to be written back.
local detach
local function detach_node(row, s, nulls)
  local nodes, t = nodes_of(row, s), {}
  if s.tag == LIST then
    setmetatable(t, LIST_META)
    for i = 1, s.len do
      local v = detach(row, nodes[i - 1], true)
      t[i] = v
    end
  else
    for i = 0, s.len - 1 do
      local key = nodes[2 * i]
      t[copy_string(cast(bytes_p, row) + key.off, key.len)] = detach(row, nodes[2 * i + 1], nulls)
    end
  end
  return t
end
function detach(row, s, nulls)
  local t = s.tag
  if t == LIST or t == MAP then return detach_node(row, s, nulls) end
  if t == NULL and nulls then return null end
  return value_of(row, s)
end

local function detach_proxy(proxy)
  local n, row = node(proxy, 4)
  local s = new("rm_slot")
  s.tag, s.len, s.off = n.tag, n.len, n.off
  return detach_node(row, s, true)
end

-- A table to be stored: proxies in it become plain tables. What is nested too
-- deep (it may contain itself) stays as it is; Rust refuses it.
local function storable(v, depth)
  if NODES[v] then return detach_proxy(v) end
  local t = v
  for k, e in next, v do
    if type(e) == "table" and depth < 130 then
      local s = storable(e, depth + 1)
      if s ~= e then
        if t == v then
          t = get_meta(v) == LIST_META and setmetatable({}, LIST_META) or {}
          for k2, e2 in next, v do t[k2] = e2 end
        end
        t[k] = s
      end
    end
  end
  return t
end

---------------------------------------------------------------- reading
local msg, fields
local METHODS = {}

local function slot_of_rest(row, k)
  local rest = rest_of(row)
  if rest == nil then return nil end
  return find(row, nodes_of(row, rest), rest.len, k)
end
local function get_rest(row, k)
  local s = slot_of_rest(row, k)
  if s ~= nil then return value_of(row, s, nil, k) end
end

-- Which names the schema knows may change; what is cached for the others is
-- thrown away when it has (see `refresh`) or when it is too much.
local ASKED = {}
local function know(k, id)
  FIELD[k] = id
  if MEMBER[k] == nil or MEMBER[k] <= REST then MEMBER[k] = id end
end
local function forget()
  for k in next, ASKED do know(k, nil) end
  ASKED, FIELDS_ASKED = {}, 0
end
local function ask(k)
  local id = C_resolve(E, k, #k)
  if id < 0 then id = REST end
  if FIELDS_ASKED >= 4096 then
    forget()
  end
  FIELDS_ASKED = FIELDS_ASKED + 1
  ASKED[k] = true
  know(k, id)
  return id
end

local function get_slow(k)
  if type(k) ~= "string" then return nil end
  local id = FIELD[k] or ask(k)
  local row = D.row
  if id < row.slots then return value_of(row, row.s[id], nil, id) end
  if id == REST then return get_rest(row, k) end
  return nil
end

local function field_get(_, k)
  local id = FIELD[k]
  if id == nil then return get_slow(k) end
  local row = D.row
  if id >= row.slots then
    if id == REST and row.slots > SLOTS_MAX then return get_rest(row, k) end
    return nil
  end
  local s = row.s[id]
  local t = s.tag
  if t == FLOAT then return s.f
  elseif t == STR then return copy_string(cast(bytes_p, row) + s.off, s.len)
  elseif t == INT then return tonumber(s.i)
  elseif t == BOOL then return s.i ~= 0
  elseif t <= NULL then return nil
  end
  return value_of(row, s, nil, id)
end

-- What `msg` knows besides the fields. The methods win over fields of their
-- names (msg:get reads those); ts and key are the message's fields where it has
-- them, and its envelope where not.
local function special(k, id)
  if id == METHOD then return METHODS[k] end
  local v = get_slow(k)
  if v ~= nil then return v end
  if id == TS then return tonumber(D.row.ts) end
  if #KEYS <= 1 then return KEYS[1] and get_slow(KEYS[1]) end
  local parts = {}
  for i = 1, #KEYS do parts[i] = tostring(get_slow(KEYS[i])) end
  return concat(parts, ":")
end

-- The same as field_get but for the special names: written out, because a
-- call more would be one more trace to link.
local function msg_get(_, k)
  local id = MEMBER[k]
  if id == nil then return get_slow(k) end
  local row = D.row
  if id >= row.slots then
    if id > REST then return special(k, id) end
    if id == REST and row.slots > SLOTS_MAX then return get_rest(row, k) end
    return nil
  end
  local s = row.s[id]
  local t = s.tag
  if t == FLOAT then return s.f
  elseif t == STR then return copy_string(cast(bytes_p, row) + s.off, s.len)
  elseif t == INT then return tonumber(s.i)
  elseif t == BOOL then return s.i ~= 0
  elseif t <= NULL then return nil
  end
  return value_of(row, s, nil, id)
end

---------------------------------------------------------------- writing
-- The slot of a field that is to be written, REST when the schema is full, or
-- a negative code.
local function slot_to_write(k)
  local id = FIELD[k]
  if id and id < SLOTS_MAX then return id end
  if type(k) ~= "string" then return -3 end
  id = C_intern(E, k, #k)
  if id == -2 then return -3 end
  if id < 0 then return REST end
  know(k, id)
  NAMES[id] = k
  return id
end

-- Returns a code.
local function set_slow(id, k, v)
  local t = type(v)
  if t == "table" then
    if rawequal(v, msg) or rawequal(v, fields) then return 4 end
    v = storable(v, 1)
  elseif t == "cdata" then
    if not istype(int64, v) then return 4 end
    if id ~= REST then return C_int(E, id, v) end
    v = tonumber(v)
  elseif v == null then
    if id ~= REST then return C_none(E, id, NULL) end
  elseif v ~= nil and t ~= "number" and t ~= "string" and t ~= "boolean" then
    return 4
  end
  return set_value(id == REST and -1 or id, k, v, 0)
end

local function set(_, k, v)
  local id, code = FIELD[k]
  if id == nil or id >= SLOTS_MAX then id = slot_to_write(k) end
  local t = type(v)
  if id < 0 then code = -id
  elseif id == REST then code = set_slow(id, k, v)
  elseif t == "string" then code = C_str(E, id, v, #v)
  elseif t == "number" then code = C_num(E, id, v)
  elseif t == "boolean" then code = C_bool(E, id, v and 1 or 0)
  elseif v == nil then code = C_none(E, id, 0)
  else code = set_slow(id, k, v)
  end
  if code ~= 0 then error(CODES[code], 2) end
end

-- The row is built anew with the one value changed; all others stay what they
-- are, digit by digit.
function NODE.__newindex(proxy, k, v)
  local n = node(proxy, 3)
  if not locate(n) then error(CODES[9], 2) end
  if type(v) == "table" then
    if rawequal(v, msg) or rawequal(v, fields) then error(CODES[4], 2) end
    v = storable(v, 1)
  elseif type(v) == "cdata" then
    local number = istype(int64, v) and tonumber(v)
    if not number or number <= -2^53 or number >= 2^53 then error(CODES[4], 2) end
    v = number
  end
  -- From the field down to the value.
  local path, root = { k }, n
  while root.up ~= nil do
    insert(path, 1, root.key)
    root = root.up
  end
  local slot = root.key
  if type(slot) == "string" then
    insert(path, 1, slot)
    slot = SLOTS_MAX
  end
  local code = set_nested(slot, v, unpack(path))
  WRITES = WRITES + 1
  if code ~= 0 then error(CODES[code], 2) end
end

---------------------------------------------------------------- methods
local parts = require("string.buffer").new(4096)
-- Only what has a text of its own: a metamethod would run in the middle of the
-- buffer.
local function part(v)
  local t = type(v)
  if t ~= "string" and t ~= "number" then error("msg:put takes text and numbers, and not a " .. t, 3) end
  return v
end
-- Written out for up to eight parts: a loop over `...` would not be compiled
-- into the caller's.
local function join(n, a, b, c, d, e, f, g, h, ...)
  if n >= 1 then parts:put(part(a)) end
  if n >= 2 then parts:put(part(b)) end
  if n >= 3 then parts:put(part(c)) end
  if n >= 4 then parts:put(part(d)) end
  if n >= 5 then parts:put(part(e)) end
  if n >= 6 then parts:put(part(f)) end
  if n >= 7 then parts:put(part(g)) end
  if n >= 8 then parts:put(part(h)) end
  for i = 9, n do parts:put(part((select(i - 8, ...)))) end
end
function METHODS.put(_, k, ...)
  local id, code = slot_to_write(k)
  parts:reset()
  join(select("#", ...), ...)
  if id < 0 then code = -id
  elseif id == REST then code = set_slow(id, k, parts:tostring())
  else
    local p, n = parts:ref()
    code = C_str(E, id, p, n)
  end
  if code ~= 0 then error(CODES[code], 2) end
end

function METHODS.get(_, k) return field_get(nil, k) end
-- Also true of null, which is read as nil.
function METHODS.has(_, k)
  if type(k) ~= "string" then return false end
  local row, id = D.row, FIELD[k] or ask(k)
  if id < row.slots then return row.s[id].tag ~= 0 end
  return id == REST and slot_of_rest(row, k) ~= nil
end
function METHODS.ts_int64() return D.row.ts end

function METHODS.fields()
  local pos, call, at, rest_at = D.pos, D.call, -1, -1
  return function()
    if pos ~= D.pos or call ~= D.call then error("msg:fields() is valid only during the call for its message", 2) end
    local row = D.row
    local last = row.slots < SLOTS_MAX and row.slots - 1 or SLOTS_MAX - 1
    while at < last do
      at = at + 1
      local s = row.s[at]
      if s.tag > NULL and NAMES[at] then return NAMES[at], value_of(row, s, nil, at) end
    end
    local rest = rest_of(row)
    if rest == nil then return nil end
    local nodes = nodes_of(row, rest)
    while rest_at < rest.len - 1 do
      rest_at = rest_at + 1
      local key, s = nodes[2 * rest_at], nodes[2 * rest_at + 1]
      if s.tag > NULL then
        local name = copy_string(cast(bytes_p, row) + key.off, key.len)
        return name, value_of(row, s, nil, name)
      end
    end
  end
end

function METHODS.copy()
  local t, row = {}, D.row
  for at = 0, row.slots - 1 do
    local s = row.s[at]
    if at < SLOTS_MAX and s.tag > NULL and NAMES[at] then t[NAMES[at]] = detach(row, s) end
  end
  local rest = rest_of(row)
  if rest ~= nil then
    for k, v in next, detach_node(row, rest) do t[k] = v end
  end
  return t
end

for name in next, METHODS do MEMBER[name] = METHOD end
MEMBER.ts, MEMBER.key = TS, KEY

msg = setmetatable({}, {
  __index = msg_get, __newindex = set, __pairs = METHODS.fields, __metatable = false,
})
fields = setmetatable({}, {
  __index = field_get,
  __newindex = function() error("an expression cannot assign a field", 2) end,
  __metatable = false,
})

local M = { msg = msg, fields = fields }

---------------------------------------------------------------- the loops
-- One per kind, each a function of its own, so that it has its own traces.
-- pos = row number * 2^26 + rows kept before it: one store, so that wherever a
-- limit strikes, Rust knows which row was being processed and which are kept.
local LOOP = [[
local D, fields, process, pcall, cast, row_p, C_route = ...
return function()
  local kept, rows = D.kept, D.rows
  for i = D.first, rows - 1 do
    D.pos = i * 67108864 + kept
    D.row = cast(row_p, D.data + D.index[-i])
    local ok, r = pcall(process, fields)
    if not ok then return true, r end
    KEEP
  end
  D.pos = rows * 67108864 + kept
  return false
end]]
local KEEP = "D.index[-kept] = D.index[-i]; kept = kept + 1"
local KINDS = {
  filter = "if r then " .. KEEP .. " end",
  map = KEEP,
  route = [[
    if r == 0 then ]] .. KEEP .. [[
    elseif r then
      local code = C_route(D, r - 1)
      if code ~= 0 then return true, "the slab of a port cannot grow" end
    end]],
}

local function replace(r)
  if type(r) ~= "table" then error("an operator returns msg, a table, or nil, and not a " .. type(r), 0) end
  local code = set_value(-2, "", storable(r, 1), 0)
  if code ~= 0 then error(CODES[code], 0) end
end

function M.loop(kind, process)
  local source = LOOP:gsub("KEEP", function() return KINDS[kind] end, 1)
  return loadstring(source, "=loop")(D, fields, process, pcall, cast, row_p, C_route)
end

---------------------------------------------------------------- for operators made of expressions
M.list_meta = LIST_META
-- Makes a list of a table, so that it is one even when it is empty.
function M.list(t)
  if t == nil then t = {} end
  local meta = type(t) == "table" and get_meta(t)
  if meta == LIST_META then return t end
  if meta ~= nil then error("list takes a table without a metatable, or nothing", 2) end
  return setmetatable(t, LIST_META)
end

M.set = set
function M.rename(from, to)
  local a, b = slot_to_write(from), slot_to_write(to)
  if a == REST or b == REST then
    local v = field_get(nil, from)
    if v == nil then return end
    set(nil, to, v)
    set(nil, from, nil)
    return
  end
  local code = C_rename(E, a, b)
  if code ~= 0 then error(CODES[code], 2) end
end
function M.keep()
  local code = C_keep(E)
  if code ~= 0 then error(CODES[code], 2) end
end
M.intern = slot_to_write

-- Called by Rust when the schema has grown.
function M.refresh(names)
  forget()
  for i = 1, #names do
    NAMES[i - 1] = names[i]
    know(names[i], i - 1)
  end
end
function M.keys(names) KEYS = names end

-- For script.lua.
M.inner = {
  D = D, E = E, ffi = ffi, call_of = call_of, row_p = row_p, KEEP = KEEP, CODES = CODES,
  C_route = C_route, msg = msg, replace = replace, storable = storable, set_value = set_value,
  copy = METHODS.copy,
}
return M
