-- What wrk posts: an array of messages of one reading each.
local batch = tonumber(os.getenv("BATCH") or "1")

local message = '{"ts":1732275600123,"device":"pump-0042","site":"hall-3",'
  .. '"temperature":71.25,"rpm":142,"state":"ok"}'
local messages = {}
for at = 1, batch do
  messages[at] = message
end

wrk.method = "POST"
wrk.path = "/"
wrk.headers["Content-Type"] = "application/json"
wrk.body = "[" .. table.concat(messages, ",") .. "]"

-- On standard error, so that what wrk says to people stays as it is.
done = function(summary)
  local wrong = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.status + summary.errors.timeout
  io.stderr:write(string.format("%d %d %d\n", summary.requests, summary.duration, wrong))
end
