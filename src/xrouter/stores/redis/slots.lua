-- How many slots of each credential a node may use. A node says how many it may be using now and how many it wants; it
-- is told how many it has from now on, and how many it should come down to.
--
-- KEYS: one hash for each credential: node -> "held wanted expires_ms", and `_quiet`, the time until which nobody gets
-- more than it holds: after this key was lost, and after a node came back of which nothing was known, others may hold
-- what is not written here yet.
-- ARGV: node, lease_ms, quiet_ms, turn_ms, then for each key: limit, held, wanted.
-- Answer, for each key: slots, target. The slots of all nodes together are never more than the limit, as long as each
-- says what it holds: nobody is given what another one has.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local node, lease, quiet, turn = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local answer = {}
for index, key in ipairs(KEYS) do
    local at = 5 + (index - 1) * 3
    local limit, held, wanted = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local rows = redis.call('HGETALL', key)
    local quiet_until, known, others = nil, false, 0
    local wants, names = {[node] = wanted}, {node}
    for place = 1, #rows, 2 do
        local name, text = rows[place], rows[place + 1]
        if name == '_quiet' then
            quiet_until = tonumber(text)
        else
            local has, wish, ends = string.match(text, '^(%d+) (%d+) (%d+)$')
            if tonumber(ends) <= now then
                redis.call('HDEL', key, name)
            elseif name == node then
                known = true
            else
                others = others + has
                wants[name] = tonumber(wish)
                names[#names + 1] = name
            end
        end
    end
    if not quiet_until or (held > 0 and not known) then
        quiet_until = now + quiet
        redis.call('HSET', key, '_quiet', string.format('%d', quiet_until))
    end
    -- One by one to those who want more, in turn; what is left then to all, so that nobody waits for its first call.
    -- Each has one where there are as many: it must not stand there with none should Redis go away.
    table.sort(names)
    local first, least = 0, 1
    if limit < #names then
        first, least = math.floor(now / turn) % #names, 0
    end
    local has, left = {}, limit
    for _, name in ipairs(names) do
        has[name] = 0
    end
    for round = 1, 2 do
        local given = true
        while left > 0 and given do
            given = false
            for place = 0, #names - 1 do
                local name = names[(place + first) % #names + 1]
                if left > 0 and (round == 2 or has[name] < math.max(wants[name], least)) then
                    has[name] = has[name] + 1
                    left = left - 1
                    given = true
                end
            end
        end
    end
    local target, slots = has[node], held
    if target > held and now >= quiet_until then
        slots = math.max(held, math.min(target, limit - others))
    end
    redis.call('HSET', key, node, string.format('%d %d %d', slots, wanted, now + lease))
    redis.call('PEXPIRE', key, lease * 4)
    answer[#answer + 1] = slots
    answer[#answer + 1] = target
end
return answer
