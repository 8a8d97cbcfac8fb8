-- Adds the average of a field over the last messages of the same key.
--
-- The average is over at most `samples` values that are no older than
-- `window_s`, the one at hand included. A message whose field is absent or no
-- number passes unchanged and does not count.
--
-- config:
--   field     the field; required
--   into      where the average goes; default: the field's name .. "_avg"
--   samples   most values per key; default 60
--   window_s  oldest value that counts, in seconds; default 60
--   key       field that tells one series from another; default: the flow's
--             partition key, or one series for all
--   min       values that are needed before there is an average; default 1
--   max_keys  series that are remembered; default 10000. Beyond it the ones
--             that were not seen for longest begin anew.
--
-- [operators.smooth]
-- type = "lua"
-- inputs = ["sensors"]
-- script = "rolling_average.lua"
-- config = { field = "temperature", samples = 20, window_s = 300 }

local M = { version = 1, timer = "60s" }

function M.init(ctx)
  if type(ctx.config.field) ~= "string" then error("config.field is the name of a field", 0) end
  return { new = {}, old = {}, count = 0 }
end

-- The series of a key: values and times in two rings of equal size.
local function series(state, key, ctx)
  local s = state.new[key]
  if s then return s end
  if state.count >= (ctx.config.max_keys or 10000) / 2 then
    state.old, state.new, state.count = state.new, {}, 0
  end
  s = state.old[key] or { v = {}, t = {}, first = 1, n = 0 }
  state.old[key] = nil
  state.new[key] = s
  state.count = state.count + 1
  return s
end

-- Forgets values from before `oldest`.
local function expire(s, oldest, size)
  while s.n > 0 and s.t[s.first] < oldest do
    s.first = s.first % size + 1
    s.n = s.n - 1
  end
end

function M.process(msg, state, ctx)
  local config = ctx.config
  local value = msg[config.field]
  if type(value) ~= "number" then return msg end
  local key = msg.key
  if config.key then key = msg[config.key] end
  local size = config.samples or 60
  local s = series(state, tostring(key), ctx)
  if s.n >= size then
    s.first = s.first % size + 1
    s.n = s.n - 1
  end
  local now = ctx.now()
  expire(s, now - (config.window_s or 60) * 1e6, size)
  local at = (s.first + s.n - 1) % size + 1
  s.v[at], s.t[at] = value, now
  s.n = s.n + 1
  if s.n < (config.min or 1) then return msg end
  -- Added up anew: a running sum drifts.
  local sum = 0
  for i = 0, s.n - 1 do sum = sum + s.v[(s.first + i - 1) % size + 1] end
  msg[config.into or (config.field .. "_avg")] = sum / s.n
  return msg
end

-- Series that have gone quiet give their memory back.
function M.on_timer(state, ctx)
  local oldest, size = ctx.now() - (ctx.config.window_s or 60) * 1e6, ctx.config.samples or 60
  for _, generation in ipairs({ "new", "old" }) do
    for key, s in pairs(state[generation]) do
      expire(s, oldest, size)
      if s.n == 0 then
        state[generation][key] = nil
        if generation == "new" then state.count = state.count - 1 end
      end
    end
  end
end

return M
