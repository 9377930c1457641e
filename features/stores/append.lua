-- Puts events into one visitor's packed history (features/history.py says what its bytes are), at once and atomically.
--
-- KEYS[1]   the visitor's history
-- ARGV[1]   magic, 4 bytes            ARGV[2]   owner, 8 bytes
-- ARGV[3]   most events               ARGV[4]   time to live, in milliseconds
-- ARGV[5]   the oldest record that is kept
-- ARGV[6..] new records

local HEAD, RECORD = 16, 16
local magic, owner, limit, ttl, oldest = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

-- Lua compares strings by the server's locale; records are compared by their bytes.
local function before(one, other)
  local a1, a2, a3, a4 = struct.unpack('>I4I4I4I4', one)
  local b1, b2, b3, b4 = struct.unpack('>I4I4I4I4', other)
  if a1 ~= b1 then return a1 < b1 end
  if a2 ~= b2 then return a2 < b2 end
  if a3 ~= b3 then return a3 < b3 end
  return a4 < b4
end

local function is_history(value)
  return type(value) == 'string' and #value >= HEAD and string.sub(value, 1, 4) == magic
    and string.sub(value, 9, 16) == owner and #value == HEAD + RECORD * struct.unpack('>I4', string.sub(value, 5, 8))
end

local function at(records, position)
  return string.sub(records, RECORD * (position - 1) + 1, RECORD * position)
end

-- From the newest on: an event is nearly always newer than all that is known.
local function insert(records, new)
  local position = #records / RECORD
  while position > 0 and before(new, at(records, position)) do
    position = position - 1
  end
  if position > 0 and at(records, position) == new then
    return records
  end
  return string.sub(records, 1, RECORD * position) .. new .. string.sub(records, RECORD * position + 1)
end

local value = redis.pcall('GET', KEYS[1])
local records = is_history(value) and string.sub(value, HEAD + 1) or ''
for position = 6, #ARGV do
  records = insert(records, ARGV[position])
end
while records ~= '' and before(at(records, 1), oldest) do
  records = string.sub(records, RECORD + 1)
end
records = string.sub(records, -RECORD * limit)

if records == '' then
  redis.call('DEL', KEYS[1])
  return 0
end
local count = #records / RECORD
local newest = math.floor(struct.unpack('>I8', at(records, count)) / 256)
redis.call('SET', KEYS[1], magic .. struct.pack('>I4', count) .. owner .. records,
  'PXAT', string.format('%.0f', newest + ttl))
return count
