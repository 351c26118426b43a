-- What a process knows that Redis does not: what was used without it, what runs, how far counters had come.
--
-- KEYS: one counter for each word, the epoch, the name of this message. ARGV: owner, lease in ms, epoch; then for each
-- microseconds for one unit (0: running calls), amount, units used (below 0: brought back), units held, floor
-- Answers with the TAT of each. With 'epoch', and does nothing, where another epoch has begun. A message that came before
-- does nothing, either: only its answer was lost. Where the counter stands below `floor`, it goes on from there.

local WORDS, HEAD = 5, 3
local owner, lease_us = ARGV[1], tonumber(ARGV[2]) * 1000
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])

if redis.call('HGET', KEYS[#KEYS - 1], 'id') ~= ARGV[3] then
    return {'epoch'}
end
if not redis.call('SET', KEYS[#KEYS], '1', 'NX', 'PX', 60000) then
    return {}
end

local tats = {}
for place = 1, #KEYS - 2 do
    tats[place] = '0'
    local function number(word)
        return tonumber(ARGV[HEAD + (place - 1) * WORDS + word])
    end
    local key, each, amount = KEYS[place], number(1), number(2)
    if each == 0 then
        if number(4) > 0 then
            redis.call('HSET', key, owner, string.format('%d %.0f', number(4), now + lease_us))
            redis.call('PEXPIRE', key, math.ceil(lease_us / 1000))
        end
    elseif amount >= 1 then
        local tat, before = now, each
        local kept = redis.call('GET', key)
        if kept then
            local first, second = string.match(kept, '^(%S+) (%S+)$')
            tat, before = math.max(now, tonumber(first)), tonumber(second)
        end
        if tat > now and math.abs(before - each) > each * 1e-9 then
            tat = now + math.min((tat - now) / before, amount) * each
        end
        tat = math.max(now, math.max(tat, number(5)) + number(3) * each)
        tats[place] = string.format('%.3f', tat)
        if tat > now then
            local lives_us = tat - now + each * amount
            redis.call('SET', key, string.format('%.3f %.9f', tat, each), 'PX', math.ceil(lives_us / 1000))
        elseif kept then
            redis.call('DEL', key)
        end
    end
end
return tats
