-- Say that a node is there; who is there, and since when may Redis be drawn from?
--
-- KEYS: the sorted set of nodes, the epoch. ARGV: the node; seconds after which a silent one has gone; the epoch that
-- the process knows; whether it comes back from a time without Redis; whether the server knew this script not; the name
-- of a new epoch; milliseconds that all nodes have to come back.
-- Answers with the number of nodes, the epoch, and microseconds until its counters may be drawn from (below 0: since).
--
-- An epoch is the time in which Redis forgets nothing. It ends with a flush (its key has gone) and with a start, whatever
-- was read from disk then: a server that has just started knows no script. Whoever comes back first says when
-- everybody goes on, so that all do it at the same time.

local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local gone_s, known, returns, fresh = tonumber(ARGV[2]), ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local settle_us, SAME_OUTAGE_US = tonumber(ARGV[7]) * 1000, 5000000

redis.call('ZADD', KEYS[1], time[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(time[1]) - gone_s)
redis.call('EXPIRE', KEYS[1], 86400)

local found = redis.call('HMGET', KEYS[2], 'id', 'opens')
local id, opens = found[1], tonumber(found[2] or nil)
if not id or not opens or (fresh and id == known) then
    id, opens = ARGV[6], now + settle_us
elseif returns and (now > opens + SAME_OUTAGE_US or opens > now + settle_us) then
    opens = now + settle_us
end
redis.call('HSET', KEYS[2], 'id', id, 'opens', string.format('%.0f', opens))
redis.call('EXPIRE', KEYS[2], 604800)
return {redis.call('ZCARD', KEYS[1]), id, string.format('%.0f', opens - now)}
