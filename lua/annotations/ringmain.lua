---@meta ringmain
-- What operators written in Lua find in Ringmain, for editors with LuaLS (the
-- Lua language server): completion, signatures and checks for `msg` and `ctx`.
--
-- Point the server at this folder in `.luarc.json` beside your scripts:
--
--   { "runtime.version": "LuaJIT", "workspace.library": ["/usr/share/ringmain/lua/annotations"] }
--
-- and say what a script is, so that its functions' parameters have types:
--
--   ---@type ringmain.Process
--   return function(msg) ... end
--
--   ---@type ringmain.Operator
--   local M = {}
--
-- The file is read by editors only; the daemon never loads it.

---JSON's null: assign it to keep a field with nothing in it. Reading such a
---field gives nil; `msg:has(name)` tells the two apart.
---@type userdata
null = nil

---An empty or given list; an empty table would be taken for a map.
---@generic T
---@param items? T[]
---@return T[]
function list(items) end

---A value that a field may have. A whole number beyond 2^53 loses digits when
---it is read; `5LL` is stored exactly. Text that is not UTF-8 is bytes.
---@alias ringmain.Value nil|boolean|number|string|integer|table|userdata

---The message at hand. It is good during the call that it is given to: keep
---`msg:copy()` if it must outlive it.
---@class ringmain.Message
---@field [string] any a field; nil where there is none. Assigning nil removes it.
---@field ts number when it came in, in microseconds since 1970, unless it has a field of that name
---@field key any the value of the flow's partition key, unless it has a field of that name
local Message = {}

---Whether there is such a field; true of null, too.
---@param name string
---@return boolean
function Message:has(name) end

---The field of that name, also where a method has the same name.
---@param name string
---@return any
function Message:get(name) end

---Stores texts and numbers joined, without making a Lua string of them.
---@param name string
---@param ... string|number
function Message:put(name, ...) end

---A plain table with everything, that may be kept.
---@return table
function Message:copy() end

---Iterates over names and values.
---@return fun(): string, any
function Message:fields() end

---When it came in, exactly.
---@return integer # int64, in microseconds since 1970
function Message:ts_int64() end

---A metric of the operator: a counter, a gauge or a histogram, by its first use.
---@class ringmain.Metric
local Metric = {}

---Adds to a counter.
---@param by? number 1 without it
function Metric:inc(by) end

---Sets a gauge.
---@param value number
function Metric:set(value) end

---Adds a value to a histogram.
---@param value number
function Metric:observe(value) end

---What stands around the messages.
---@class ringmain.Context
---@field config table the operator's `config` in the flow's file
---@field metrics table<string, ringmain.Metric> up to 64 names
local Context = {}

---Adds a message, before the one at hand.
---@param message table|ringmain.Message
---@param port? string one of the operator's `ports`; the default output without it
function Context.emit(message, port) end

---Writes a line to the daemon's log, under the operator's name.
---@param ... any
function Context.log(...) end

---The clock of the turn, in microseconds since 1970. Virtual in tests.
---@return number
function Context.now() end

---The short form: return the message to keep it, nil or false to drop it, a
---table to put in its place, `msg, "port"` to send it to a port.
---`error("why")` makes this message a dead letter.
---@alias ringmain.Process fun(msg: ringmain.Message, state: table, ctx: ringmain.Context): ringmain.Message|table|boolean|nil, string?

---The full form.
---@class ringmain.Operator
---@field version? integer|string one that differs from the last one's calls `migrate`
---@field timer? string a duration such as "10s": how often `on_timer` is called
---@field init? fun(ctx: ringmain.Context): table makes the state of one partition of the keys
---@field process ringmain.Process
---@field on_timer? fun(state: table, ctx: ringmain.Context) for every partition with a state
---@field migrate? fun(state: table, version: any): table the state for this version, made of the last one's
