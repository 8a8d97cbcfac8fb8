-- Drops messages that were there a moment ago.
--
-- Two messages are the same when the named fields have the same values, of the
-- same type. The first one passes; each further one within the window is
-- dropped, and does not prolong it. With `distinct = "change"` a message passes
-- when the values of `watch` differ from those of the last one with the same
-- fields, whatever the time.
--
-- config:
--   fields    list of fields that say which messages are the same;
--             default: the flow's partition key
--   window_s  seconds for which a message counts as repeated; default 60
--   distinct  "window" (default) or "change"
--   watch     with "change": list of fields that must differ; required then
--   max_keys  keys that are remembered; default 100000. Beyond it the ones that
--             were not seen for longest are forgotten, and pass once more.
--
-- [operators.once]
-- type = "lua"
-- inputs = ["sensors"]
-- script = "dedupe.lua"
-- config = { fields = ["device", "event_id"], window_s = 300 }

local concat, type, tostring, error = table.concat, type, tostring, error

-- The values of fields as one text. The length stands before each value, so
-- that ("a", "bc") and ("ab", "c") are two things.
local function identity(msg, fields)
  local parts = {}
  for i = 1, #fields do
    local v = msg[fields[i]]
    local text = tostring(v)
    parts[i] = type(v) .. #text .. ":" .. text
  end
  return concat(parts)
end

local function names(ctx, name)
  local v = ctx.config[name]
  if v ~= nil and (type(v) ~= "table" or #v == 0) then error("config." .. name .. " is a list of field names", 0) end
  return v
end

local M = { version = 1 }

-- Two generations of keys: when the new one is full it becomes the old one, and
-- what was the old one is forgotten. A lookup moves its key to the new one.
function M.init(ctx)
  names(ctx, "fields")
  if ctx.config.distinct == "change" and names(ctx, "watch") == nil then
    error("config.watch is required with distinct = \"change\"", 0)
  end
  return { new = {}, old = {}, count = 0 }
end

local function remember(state, key, value, ctx)
  if state.new[key] == nil then
    if state.count >= (ctx.config.max_keys or 100000) / 2 then
      state.old, state.new, state.count = state.new, {}, 0
    end
    state.count = state.count + 1
  end
  state.new[key] = value
end

function M.process(msg, state, ctx)
  local config = ctx.config
  local key
  if config.fields then
    key = identity(msg, config.fields)
  else
    key = msg.key
    if key == nil then error("the message has no key; set config.fields or [partition]") end
    key = tostring(key)
  end
  local last = state.new[key]
  if last == nil then last = state.old[key] end
  if config.distinct == "change" then
    local now = identity(msg, config.watch)
    remember(state, key, now, ctx)
    if last ~= now then return msg end
    return nil
  end
  local now = ctx.now()
  if last ~= nil and now - last < (config.window_s or 60) * 1e6 then
    remember(state, key, last, ctx)
    return nil
  end
  remember(state, key, now, ctx)
  return msg
end

return M
