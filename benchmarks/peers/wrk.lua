-- Sends the requests of a file in turn. In the file each is its length in decimal, a newline, and so many bytes.
local payloads, turn = {}, 0

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local length = file:read("*n")
  while length do
    file:read(1)
    payloads[#payloads + 1] = file:read(length)
    length = file:read("*n")
  end
end

function request()
  turn = turn % #payloads + 1
  return payloads[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answers": %d, "microseconds": %d, "refused": %d, "broken": %d, "late": %d, "p50": %d, "p99": %d, "max": %d}\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
