-- Raises an alarm above one threshold and clears it below another, per key.
--
-- Between the two the alarm stays as it is, so a value that trembles around one
-- limit does not flap. With `above` below `below` it works the other way round:
-- low values raise the alarm, high ones clear it.
--
-- A message that changes the alarm gets the fields `alarm` (true or false) and
-- `alarm_since` (when it was raised, microseconds). Others are dropped, or
-- passed with the same fields when `pass` is "all". A message whose field is no
-- number is an error and goes to the dead letters.
--
-- config:
--   field     the field; required
--   above     raise when the value is above; required
--   below     clear when the value is below; required, differs from `above`
--   pass      "changes" (default) or "all"
--   hold_s    raise only when the value has been beyond for so many seconds;
--             default 0
--   key       field that tells one thing from another; default: the flow's
--             partition key, or one for all
--   max_keys  things that are remembered; default 100000. Beyond it the ones
--             that were not seen for longest begin anew, without an alarm.
--
-- [operators.overheat]
-- type = "lua"
-- inputs = ["sensors"]
-- script = "threshold.lua"
-- config = { field = "temperature", above = 90, below = 80, hold_s = 10 }

local M = { version = 1 }

function M.init(ctx)
  local c = ctx.config
  if type(c.field) ~= "string" then error("config.field is the name of a field", 0) end
  if type(c.above) ~= "number" or type(c.below) ~= "number" or c.above == c.below then
    error("config.above and config.below are two different numbers", 0)
  end
  return { new = {}, old = {}, count = 0 }
end

-- What is known of a key: `alarm` and `since`, or `beyond`, when it went beyond.
local function thing(state, key, ctx)
  local t = state.new[key]
  if t then return t end
  if state.count >= (ctx.config.max_keys or 100000) / 2 then
    state.old, state.new, state.count = state.new, {}, 0
  end
  t = state.old[key] or { alarm = false }
  state.old[key] = nil
  state.new[key] = t
  state.count = state.count + 1
  return t
end

function M.process(msg, state, ctx)
  local c = ctx.config
  local value = msg[c.field]
  if type(value) ~= "number" then error(c.field .. " is no number but a " .. type(value)) end
  local key = msg.key
  if c.key then key = msg[c.key] end
  local t = thing(state, tostring(key), ctx)
  local sign = c.above > c.below and 1 or -1
  local changed, now = false, ctx.now()
  if sign * value > sign * c.above then
    t.beyond = t.beyond or now
    if not t.alarm and now - t.beyond >= (c.hold_s or 0) * 1e6 then
      t.alarm, t.since, changed = true, now, true
    end
  else
    t.beyond = nil
    if t.alarm and sign * value < sign * c.below then t.alarm, changed = false, true end
  end
  if not changed and c.pass ~= "all" then return nil end
  msg.alarm = t.alarm
  if t.since then msg.alarm_since = t.since end
  if not t.alarm then t.since = nil end
  return msg
end

return M
