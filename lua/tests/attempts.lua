-- Attempts to get out of the sandbox: `m` is the message, `c` the context.
-- tests/sandbox.rs runs each and looks for what none may return.
--@ require ffi
return require("ffi")
--@ package.loaded
return package.loaded.ffi
--@ _G.ffi / _G.jit
return tostring(_G.ffi) .. tostring(_G.jit) .. tostring(_G.debug) .. tostring(_G.io) .. tostring(_G.package) .. tostring(_G.require)
--@ getfenv
return getfenv(0)
--@ getfenv of string fn
return getfenv(string.format).require
--@ setfenv
return setfenv(1, {})
--@ loadstring bytecode
return loadstring("\27LJ\2")
--@ load
return load("return 1")
--@ string.dump via method
return ("").dump(function() end)
--@ string.dump
return string.dump(function() end)
--@ getmetatable('') __index
return getmetatable("").__index.dump
--@ poison string methods
string.format = function() return "poisoned" end; return ("%d"):format(3)
--@ getmetatable(msg)
return getmetatable(msg)
--@ getmetatable(cursor arg)
return getmetatable(m)
--@ type of cursor
return type(m)
--@ cursor index by number
return m[0]
--@ cursor arithmetic
return m + 1
--@ cursor deref big
return m[1e9]
--@ cursor write number
m[5] = 7; return m[5]
--@ cursor hidden member
m.dummy_ = 7; return m.dummy_
--@ cursor call
return m()
--@ cursor len
return #m
--@ cursor concat
return "x" .. m
--@ cursor pairs
for k, v in pairs(m) do return k end
--@ cursor ipairs
for k, v in ipairs(m) do return k end
--@ cursor compare
return m < m
--@ cursor tostring (address leak)
return tostring(m):gsub("0x%x+", "0xADDR")
--@ setmetatable(cursor)
return setmetatable(m, {})
--@ cursor as setmetatable metatable
return setmetatable({}, m)
--@ cursor as __index
local t = setmetatable({}, { __index = m }); return t.rpm
--@ store table in field
m.rpm = {}
--@ store function in field
m.rpm = function() end
--@ store cursor in field
m.rpm = m
--@ bad field key types
m[{}] = 1
--@ NaN key
return m[0/0]
--@ nil key
return m[nil]
--@ rawget/rawset
return rawset
--@ rawget cursor
return rawget(m, "dummy_")
--@ tonumber(cursor)
return tonumber(m)
--@ table.concat on cursor
return table.concat(m)
--@ unpack cursor
return unpack(m)
--@ string.format %p of cursor
return (string.format("%p", m):gsub("0x%x+", "0xADDR"))
--@ coroutine present
return coroutine
--@ debug via error traceback
local _, e = pcall(error, setmetatable({}, {__tostring = function() return "x" end})); return type(e)
--@ string.rep bomb
return ("x"):rep(1e10)
--@ rep in pattern
return #string.rep("ab", 500000)
--@ module/newproxy/collectgarbage
return tostring(module) .. tostring(newproxy) .. tostring(collectgarbage) .. tostring(dofile) .. tostring(loadfile) .. tostring(gcinfo)
--@ os.execute etc
return tostring(os.execute) .. tostring(os.exit) .. tostring(os.getenv) .. tostring(os.remove) .. tostring(os.rename) .. tostring(os.tmpname) .. tostring(os.setlocale)
--@ int64 literal cdata
return type(1LL)
--@ int64 literal: getmetatable
return getmetatable(1LL)
--@ int64 literal index
return (1LL).x
--@ complex literal member
return (1i).re
--@ use cdata key str
local x = 5LL; return x[0]
--@ xpcall handler with debug
return xpcall(function() error("a") end, function(e) return e end)
--@ math.randomseed global effect
return math.randomseed
--@ loadstring text
return loadstring('return 1')
--@ rawget, rawequal, rawlen
return tostring(rawget) .. tostring(rawequal) .. tostring(rawlen) .. tostring(rawset)
--@ _G of the environment
return _G.loadstring or _G.require or _G._G.ffi
--@ _G through setmetatable
setmetatable(_G, { __index = function(t, k) return k end }) return ffi
--@ global environment through string method
return (''):gsub('.*', getfenv and getfenv() or 'none')
--@ upvalues of the cursor through error
local ok, e = pcall(function() m[{}] = 1 end) return tostring(e):find('prelude') or 'clean'
--@ error object with a metatable
error(setmetatable({}, { __tostring = function() return ffi end, __index = m }))
--@ tostring metamethod on message
return tostring(setmetatable({}, { __tostring = function() return 5 end }))
--@ pairs of the cursor gives values only
for k, v in pairs(m) do if type(v) == 'function' or type(v) == 'cdata' then return 'ESCAPED' end end
--@ next of the cursor
return next(m)
--@ next of a nested value
return next(m.doc)
--@ nested value: metatable
return getmetatable(m.doc)
--@ nested value: write
m.doc.base = 1 return m.doc.base
--@ nested value: hidden fields
return tostring(m.doc.off) .. tostring(m.doc.pos) .. tostring(m.doc.base)
--@ nested value: index beyond
return m.list[1e9]
--@ nested value: negative index
return m.list[-1]
--@ nested value: fraction
return m.list[1.5]
--@ nested value: NaN
return m.list[0/0]
--@ nested value: huge
return m.list[2^53]
--@ method with another self
return m.copy(nil).rpm
--@ method put with a table
m:put('a', {})
--@ method put with cdata
m:put('a', 1LL)
--@ method fields kept
local f = m:fields() f() return type(f)
--@ ts_int64 is a number only
return m:ts_int64().x
--@ cdata constructor from an instance
local v = m:ts_int64() return v(5)
--@ cdata metatable
return getmetatable(m:ts_int64())
--@ cdata as a key
local t = {} t[m:ts_int64()] = 1 return m[m:ts_int64()]
--@ cdata call through pcall
return pcall(m:ts_int64(), 1)
--@ string.format of cdata
return string.format('%s', m:ts_int64())
--@ string.buffer
return require and require('string.buffer')
--@ jit
return tostring(jit)
--@ null
return tostring(getmetatable(null)) .. type(null)
--@ null index
return null.x
--@ null call
return null()
--@ ctx metatable
return tostring(getmetatable(c))
--@ ctx log function environment
return tostring(getfenv) .. type(c.log)
--@ ctx emit with the cursor's metatable
c.emit(setmetatable({ a = 1 }, { __index = m, __pairs = function() return ffi end }))
--@ ctx emit with a key of cdata
c.emit({ [1LL] = 1 })
--@ ctx emit of ctx
c.emit(c)
--@ sort with an invalid order
local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() return true end) return #t
--@ table.concat with numbers
return table.concat({ 1, 2 }, ',')
--@ unpack of a huge range
return unpack({}, 1, 1e8)
--@ string.char out of range
return string.char(256)
--@ string.format with %q of the cursor
return string.format('%q', m)
--@ gsub with a table of the cursor
return (('rpm'):gsub('%w+', m))
--@ os members
return tostring(os.exit) .. tostring(os.getenv) .. tostring(os.execute) .. tostring(os.remove)
--@ string members
return tostring(string.dump) .. tostring(string.buffer)
--@ strings index through a number
return ('x')[1]
--@ debug in xpcall
return xpcall(function() error('a') end, function(e) return debug or e end)
--@ coroutine
return tostring(coroutine)
--@ select with negative
return select(-1, 1, 2)
