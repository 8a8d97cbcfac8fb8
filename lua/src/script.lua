-- What scripts have besides the cursor: the loop that calls `process`, one
-- table of state per partition, timers, ctx, `require`.
local P, null = ...
local D, E, ffi, msg, CODES, storable = P.D, P.E, P.ffi, P.msg, P.CODES, P.storable
local C_metric = P.call_of("metric", "int32_t (*)(void *, const void *, int32_t, int32_t)")
local C_cell = P.call_of("metric_cell", "double *(*)(void *, int32_t)")
local C_observe = P.call_of("observe", "void (*)(void *, int32_t, double)")

local type, error, pcall, rawequal, rawset = type, error, pcall, rawequal, rawset
local setmetatable, getmetatable = setmetatable, debug.getmetatable
local tostring, next, select, concat = tostring, next, select, table.concat
local floor, ceil, huge, getinfo = math.floor, math.ceil, math.huge, debug.getinfo

local M = {}

---------------------------------------------------------------- state
-- Partition -> its table, false where there is none yet. A row's partition is
-- the upper part of its key's hash times their number, as in partition_of.
local STATES, PARTITIONS = { [0] = false }, 1
-- Made when the script was loaded, to find out whether it can be; the first
-- partition that needs one gets it.
local spare

function M.partitions(count)
  PARTITIONS = count
  STATES = {}
  for p = 0, count - 1 do STATES[p] = false end
end

-- A hash of that partition, for messages that belong to no other.
local function hash_of(p) return ceil(p * 4294967296 / PARTITIONS) end

local function checked(state, name)
  if type(state) ~= "table" then
    error(name .. " returns a table, the state of one partition, and not a " .. type(state), 0)
  end
  return state
end

local function initial(module, ctx)
  if module.init == nil then return {} end
  local state = module.init(ctx)
  if state == nil then return {} end
  return checked(state, "init")
end

-- Whether anything of it can see a state.
function M.stateful(module)
  if module.init or module.on_timer then return true end
  local info = getinfo(module.process, "u")
  return info.nparams > 1 or info.isvararg
end

-- A copy that shares no table with the original, however they refer to each
-- other.
local function deep(v)
  local copies, left, count = {}, {}, 0
  local function copy(t)
    if type(t) ~= "table" then return t end
    if copies[t] == nil then
      copies[t] = setmetatable({}, getmetatable(t))
      count = count + 1
      left[count] = t
    end
    return copies[t]
  end
  local root = copy(v)
  while count > 0 do
    local t = left[count]
    count = count - 1
    local c = copies[t]
    for k, e in next, t do rawset(c, copy(k), copy(e)) end
  end
  return root
end

-- The states that a version of a script begins with; nothing is changed yet.
-- `migrate` works on copies, so that a failure leaves all as it was.
function M.states(module, ctx, old)
  local states = STATES
  if old ~= nil and module.migrate and module.version ~= old.version then
    states = {}
    for p = 0, PARTITIONS - 1 do
      local state = STATES[p]
      states[p] = state and checked(module.migrate(deep(state), old.version), "migrate")
    end
  end
  if not M.stateful(module) then return states end
  if PARTITIONS > 1 then
    if old == nil then spare = initial(module, ctx) end
  elseif not states[0] then
    states = { [0] = initial(module, ctx) }
  end
  return states
end

function M.adopt(states, replaces)
  STATES = states
  -- It was made by the version that goes.
  if replaces then spare = nil end
end

-- The state of a partition, if it has one.
function M.state(p) return STATES[p] or nil end

-- Puts a state in place that an older version may have left.
function M.restore(module, p, state, version)
  if module.migrate and module.version ~= version then state = module.migrate(state, version) end
  STATES[p] = checked(state, "migrate")
end

-- For saved.rs: the halves of a boxed number, nil of anything else; or, without
-- one, the boxed number of two halves.
local int64 = ffi.typeof("int64_t")
local halves = ffi.typeof("union { int64_t i; uint32_t h[2]; }")
function M.int64(v, low, high)
  local u = halves()
  if type(v) == "cdata" then
    if not ffi.istype(int64, v) then return nil end
    u.i = v
    return u.h[0], u.h[1]
  end
  u.h[0], u.h[1] = low, high
  return u.i
end

---------------------------------------------------------------- the loops
-- As in prelude.lua. The state is looked up per message where there are
-- partitions, and per slab where there is one.
local LOOP = [[
local D, msg, process, pcall, cast, row_p, rawequal, replace, leave, floor, make, states, scale, ctx = ...
return function()
  local kept, rows = D.kept, D.rows
  PER_SLAB
  for i = D.first, rows - 1 do
    D.pos = i * 67108864 + kept
    local row = cast(row_p, D.data + D.index[-i])
    D.row = row
    PER_MESSAGE
    local ok, r, port = pcall(process, msg, state, ctx)
    if not ok then return true, r end
    if r then
      if not rawequal(r, msg) then
        local ok, why = pcall(replace, r)
        if not ok then return true, why end
      end
      if port == nil then
        KEEP
      else
        local why = leave(port)
        if why then return true, why end
      end
    end
  end
  D.pos = rows * 67108864 + kept
  return false
end]]
local STATE = [[
    local p = floor(row.key_hash * scale)
    local state = states[p]
    if not state then
      local made, new = pcall(make, p)
      if not made then return true, new end
      state = new
    end]]

local TIMERS = [[
local D, on_timer, pcall, states, count, hash_of, ctx = ...
return function()
  for p = D.first, count - 1 do
    local state = states[p]
    if state then
      D.pos = p * 67108864
      D.hash = hash_of(p)
      local ok, why = pcall(on_timer, state, ctx)
      if not ok then return true, why end
    end
  end
  D.pos = count * 67108864
  return false
end]]

-- Port -> its number, from 1.
local PORTS = {}

local function leave(port)
  local number = PORTS[port]
  if number == nil then return "no such port: " .. tostring(port) end
  if P.C_route(E, number - 1) ~= 0 then return "the slab of a port cannot grow" end
end

-- The functions that are called per slab and by the timer.
function M.loops(module, ctx, states)
  local function make(p)
    local state = spare
    spare = nil
    if state == nil then state = initial(module, ctx) end
    states[p] = state
    return state
  end
  local per_slab, per_message = "local state = states[0] or nil", ""
  if not M.stateful(module) then
    per_slab = "local state"
  elseif PARTITIONS > 1 then
    per_slab, per_message = "", STATE
  end
  local source = LOOP:gsub("PER_SLAB", per_slab):gsub("PER_MESSAGE", per_message)
  source = source:gsub("KEEP", function() return P.KEEP end)
  local run = loadstring(source, "=loop")(
    D, msg, module.process, pcall, ffi.cast, P.row_p, rawequal, P.replace, leave, floor, make,
    states, PARTITIONS / 4294967296, ctx)
  if type(module.on_timer) ~= "function" then return run end
  local timer = loadstring(TIMERS, "=timers")(
    D, module.on_timer, pcall, states, PARTITIONS, hash_of, ctx)
  return run, timer
end

---------------------------------------------------------------- metrics
local COUNTER, GAUGE, HISTOGRAM = 1, 2, 3
local KINDS = { "counter", "gauge", "histogram" }

-- One metric, which is of the kind that it is first used as.
local function metric(name, known)
  local kind, number, cell
  local own = {}
  local function be(want)
    local n = -10 - (kind or 0)
    if kind == nil then n = C_metric(E, name, #name, want) end
    if n == -1 then
      error("ctx.metrics: a name has up to 64 letters, digits and '_', and no digit first: '" .. name .. "'", 3)
    elseif n == -2 then
      error("ctx.metrics: an operator has at most 64 metrics, and '" .. name .. "' is one more", 3)
    elseif n < 0 then
      error("ctx.metrics." .. name .. " is a " .. KINDS[-10 - n], 3)
    end
    kind, number, cell = want, n, C_cell(E, n)
    rawset(known, name, own)
  end
  function own.inc(_, n)
    if kind ~= COUNTER then be(COUNTER) end
    if n == nil then n = 1 end
    if not (n >= 0 and n < huge) then error("inc takes a number from 0 on", 2) end
    cell[0] = cell[0] + n
  end
  function own.set(_, v)
    if kind ~= GAUGE then be(GAUGE) end
    if type(v) ~= "number" then error("set takes a number, and not a " .. type(v), 2) end
    cell[0] = v
  end
  function own.observe(_, v)
    if kind ~= HISTOGRAM then be(HISTOGRAM) end
    if type(v) ~= "number" or v ~= v then error("observe takes a number", 2) end
    C_observe(E, number, v)
  end
  return own
end

local function metrics()
  return setmetatable({}, {
    __index = function(known, name)
      if type(name) ~= "string" then error("ctx.metrics: a metric's name is text", 2) end
      return metric(name, known)
    end,
    __newindex = function() error("metrics are not assigned: write ctx.metrics.NAME:inc()", 2) end,
    __metatable = false,
  })
end

---------------------------------------------------------------- ctx
function M.context(config, log, ports)
  PORTS = ports
  local ctx = { config = config, metrics = metrics() }
  function ctx.now() return D.now end
  function ctx.log(...)
    local n = select("#", ...)
    local texts = { ... }
    for i = 1, n do texts[i] = tostring(texts[i]) end
    log(concat(texts, " "))
  end
  function ctx.emit(t, port)
    local number = 0
    if port ~= nil then
      number = PORTS[port]
      if number == nil then error(CODES[7] .. ": " .. tostring(port), 2) end
    end
    if type(t) ~= "table" then error("ctx.emit takes a table", 2) end
    if rawequal(t, msg) then t = P.copy() end
    local code = P.set_value(-3, "", storable(t, 1), number)
    if code ~= 0 then error(CODES[code], 2) end
  end
  return ctx
end

---------------------------------------------------------------- loading
-- What a script's chunk returns, in the full form.
function M.module(chunk)
  local module = chunk()
  if type(module) == "function" then module = { process = module } end
  if type(module) ~= "table" or type(module.process) ~= "function" then
    error("a script returns a function, or a table with a function `process`", 0)
  end
  for _, name in next, { "init", "migrate" } do
    local t = type(module[name])
    if t ~= "nil" and t ~= "function" then error(name .. " is a function, and not a " .. t, 0) end
  end
  local t = type(module.version)
  if t ~= "nil" and t ~= "number" and t ~= "string" then
    error("version is a number or a text, and not a " .. t, 0)
  end
  return {
    process = module.process, init = module.init, migrate = module.migrate,
    on_timer = module.on_timer, timer = module.timer, version = module.version,
  }
end

-- `require` of one load. `find` compiles a module, or returns nil and why there
-- is none. While a module runs, it stands for itself in `loaded`.
function M.require(find, environment)
  local loaded = {}
  return function(name)
    if type(name) ~= "string" then error("require takes a name", 2) end
    local value = loaded[name]
    if value == loaded then error("require: '" .. name .. "' requires itself", 2) end
    if value ~= nil then return value end
    local chunk, why = find(name, environment)
    if not chunk then
      -- What is wrong inside of the module has its own place.
      error(why.text, why.inside and 0 or 2)
    end
    loaded[name] = loaded
    local ok, result = pcall(chunk, name)
    if not ok then
      loaded[name] = nil
      error(result, 0)
    end
    if result == nil then result = true end
    loaded[name] = result
    return result
  end
end
return M
