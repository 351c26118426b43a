-- The arithmetic of core/gcra.py for all nodes: serve all draws of a group, or give none of them anything.
--
-- KEYS: one counter for each draw, the epoch. ARGV: owner, lease in ms, part, epoch; then for each draw
--   group, microseconds for one unit (0: running calls), amount, need, want, back, held, floor
-- Answers with four texts for each draw: given, free, seconds to wait, TAT. Where Redis has forgotten everything since the
-- process last heard of it (`present.lua`), nothing is given, and the answer is 'epoch'.
--
-- A rate is kept as "TAT T", in microseconds since 2023-11-14T22:13:20Z, so that a double holds fractions of them.
-- Running calls are a hash: process -> "units end-of-lease". `floor` is the last TAT that the asking process saw: where
-- Redis has lost one counter (it is full, and its policy is to forget), counting goes on from there.

local DRAW, HEAD, DRAWS = 8, 4, #KEYS - 1
if redis.call('HGET', KEYS[#KEYS], 'id') ~= ARGV[4] then
    return {'epoch'}
end
local owner, lease_us, part = ARGV[1], tonumber(ARGV[2]) * 1000, tonumber(ARGV[3])
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local states, order, answers = {}, {}, {}

local function argument(draw, place)
    return ARGV[HEAD + (draw - 1) * DRAW + place]
end

local function number(draw, place)
    return tonumber(argument(draw, place))
end

local function load_rate(key, each, floor)
    local kept = redis.call('GET', key)
    if kept then
        local tat, before = string.match(kept, '^(%S+) (%S+)$')
        return {tat = tonumber(tat), each = tonumber(before)}
    end
    return {tat = floor, each = each}
end

local function load_running(key, held)
    local all, others, dead = redis.call('HGETALL', key), 0, {}
    for place = 1, #all, 2 do
        local units, ends = string.match(all[place + 1], '^(%S+) (%S+)$')
        if tonumber(ends) <= now then
            dead[#dead + 1] = all[place]
        elseif all[place] ~= owner then
            others = others + tonumber(units)
        end
    end
    if #dead > 0 then
        redis.call('HDEL', key, unpack(dead))
    end
    return {running = true, mine = held, others = others}
end

local function suffices(free, need, each)
    local slack = 0.000001
    if each > 0 then
        slack = slack + 0.1 / each
    end
    return free + slack >= need
end

local function look(draw)
    local key, each, amount = KEYS[draw], number(draw, 2), number(draw, 3)
    local state = states[key]
    if not state then
        if each > 0 then
            state = load_rate(key, each, number(draw, 8))
        else
            state = load_running(key, number(draw, 7))
        end
        states[key] = state
        order[#order + 1] = key
    end
    local found = {state = state, each = each, need = number(draw, 4), want = number(draw, 5)}
    if state.running then
        found.base = state.mine
        found.free = amount - state.others - state.mine
        return found
    end
    local base = math.max(state.tat, now)
    if base > now and math.abs(state.each - each) > each * 1e-9 then
        base = now + math.min((base - now) / state.each, amount) * each
    end
    base = math.max(base - number(draw, 6) * each, now)
    found.base = base
    found.free = amount - (base - now) / each
    if amount >= 1 then
        found.need = math.min(found.need, amount)
        state.window = each * amount
    end
    return found
end

local draw = 1
while draw <= DRAWS do
    local group, first, looked, served = argument(draw, 1), draw, {}, true
    while draw <= DRAWS and argument(draw, 1) == group do
        local found = look(draw)
        looked[#looked + 1] = found
        served = served and suffices(found.free, found.need, found.each)
        draw = draw + 1
    end
    for place, found in ipairs(looked) do
        local given, wait = 0, 0
        if served then
            given = math.max(found.need, math.min(found.want, math.floor(found.free * part)))
        elseif not suffices(found.free, found.need, found.each) then
            wait = found.each > 0 and (found.need - found.free) * found.each / 1000000 or 1
        end
        if found.state.running then
            found.state.mine = found.base + given
        elseif number(first + place - 1, 3) >= 1 then
            found.state.tat = found.base + given * found.each
            found.state.each = found.each
        end
        answers[#answers + 1] = string.format('%.6f', given)
        answers[#answers + 1] = string.format('%.6f', found.free - given)
        answers[#answers + 1] = string.format('%.6f', wait)
        answers[#answers + 1] = string.format('%.3f', found.state.tat or 0)
    end
end

for _, key in ipairs(order) do
    local state = states[key]
    if state.running then
        if state.mine > 0 then
            redis.call('HSET', key, owner, string.format('%d %.0f', state.mine, now + lease_us))
            redis.call('PEXPIRE', key, math.ceil(lease_us / 1000))
        else
            redis.call('HDEL', key, owner)
        end
    elseif state.window then
        local lives_us = math.max(state.tat - now, 0) + state.window
        redis.call('SET', key, string.format('%.3f %.9f', state.tat, state.each), 'PX', math.ceil(lives_us / 1000))
    end
end
return answers
