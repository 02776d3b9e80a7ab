/**
 * The Lua scripts of the Redis store. Each touches one key, so Redis Cluster works, and uses Redis' own clock, so proxies
 * whose clocks differ agree. `senderScript` does what src/reputation/standing.ts does; a test holds the two together.
 */

import { COUNTERS } from "../reputation/counts.ts";
import { longestFirst } from "../reputation/score.ts";
import type { ReputationSettings } from "../reputation/store.ts";
import type { TierLadder } from "../reputation/tiers.ts";

/**
 * Reads a sender's record, and adds to it where a sequence is given and is newer than the last one of its worker. The
 * settings are part of the text, so they are neither sent nor parsed with each call.
 *
 * KEYS[1] sender's hash. ARGV: 1 epoch ("" reads only), 2 worker, 3 sequence, 4 recipients, 5 ttl in ms, then the tallies:
 * five numbers per half-life.
 * Gives, in one text with zero octets between (a reply of many elements is dear to parse): applied (1/0), now, total, tier,
 * tier_at, pin ("" none), known (1/0), tier before, score, counts…
 */
export function senderScript({ score, ladder }: ReputationSettings): string {
  const { halfLivesMs } = score;
  const { defer, refuse, unknown, spam } = score.weights;
  const side = (tiers: TierLadder["low"]) =>
    tiers.map(({ name, enter, leave }) => `{ ${luaText(name)}, ${enter}, ${leave} }`).join(", ");
  const counters = halfLivesMs.flatMap((_, i) => COUNTERS.map((name) => `'${name}:${i}'`));
  return `local cfg = {
  half_lives = { ${halfLivesMs.join(", ")} }, prior = ${score.prior}, strength = ${score.strength},
  w = { ${[defer, refuse, unknown, spam].join(", ")} }, dwell = ${ladder.dwellMs},
  low = { ${side(ladder.low)} }, high = { ${side(ladder.high)} },
  longest_first = { ${longestFirst(halfLivesMs).map((i) => i + 1)} },
}
local counters = { ${counters.join(", ")} }
${SENDER_SCRIPT}`;
}

function luaText(text: string): string {
  const escaped = [...Buffer.from(text)].map((octet) => `\\${String(octet).padStart(3, "0")}`);
  return `"${escaped.join("")}"`;
}

const SENDER_SCRIPT = `
local key = KEYS[1]
local epoch, worker, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local qfield = 'q:' .. epoch .. '.' .. worker
local num = function(v) return v == 0 and '0' or string.format('%.17g', v) end

-- What the record has not is false.
local h = redis.call('HMGET', key, 't', 'n', 'tier', 'tier_at', 'pin', qfield, unpack(counters))
local known, pin, last = h[1] ~= false, h[5], tonumber(h[6])
local applied = epoch ~= '' and (last == nil or seq > last)

local t = tonumber(h[1]) or now
if t > now then now = t end
-- Five counts per half-life, one half-life after the other, as in ARGV.
local counts = {}
for i, half in ipairs(cfg.half_lives) do
  local factor = 2 ^ (-(now - t) / half)
  for k = i * 5 - 4, i * 5 do
    counts[k] = (tonumber(h[6 + k]) or 0) * factor
    if applied then counts[k] = counts[k] + tonumber(ARGV[5 + k]) end
  end
end
local total = tonumber(h[2]) or 0
if applied then total = total + tonumber(ARGV[4]) end

local prior, score = cfg.prior, nil
for _, i in ipairs(cfg.longest_first) do
  local ok, defer, refuse, unknown, spam = unpack(counts, i * 5 - 4, i * 5)
  local bad = cfg.w[1] * defer + cfg.w[2] * refuse + cfg.w[3] * unknown + cfg.w[4] * spam
  local mean = (cfg.strength * prior + ok) / (cfg.strength + ok + bad)
  if score == nil or mean < score then score = mean end
  prior = mean
end

local tier, tier_at = h[3] or 'neutral', tonumber(h[4]) or 0
local before = tier
local index = function(side, name)
  for i, s in ipairs(side) do if s[1] == name then return i end end
  return 0
end
local rank = function(name)
  local low = index(cfg.low, name)
  if low > 0 then return low - 1 - #cfg.low end
  local high = index(cfg.high, name)
  if high > 0 then return #cfg.high - high + 1 end
  return 0
end
local asked = nil
local held = index(cfg.low, tier)
for i, s in ipairs(cfg.low) do
  if asked == nil and (score <= s[2] or (held > 0 and held <= i and score < s[3])) then asked = s[1] end
end
held = index(cfg.high, tier)
for i, s in ipairs(cfg.high) do
  if asked == nil and (score >= s[2] or (held > 0 and held <= i and score > s[3])) then asked = s[1] end
end
asked = asked or 'neutral'
if asked ~= tier then
  local improves = rank(asked) > rank(tier)
  if not (improves and tier_at > 0 and now - tier_at < cfg.dwell) then
    tier = asked
    tier_at = now
  end
end

local out = { applied and '1' or '0', num(now), num(total), tier, num(tier_at), pin or '',
  (known or applied) and '1' or '0', before, num(score) }
for _, count in ipairs(counts) do out[#out + 1] = num(count) end

if applied then
  local fields = { 't', out[2], 'n', out[3], 'tier', tier, 'tier_at', out[5], qfield, seq }
  for k, name in ipairs(counters) do
    fields[#fields + 1] = name
    fields[#fields + 1] = out[9 + k]
  end
  redis.call('HSET', key, unpack(fields))
  if pin then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ARGV[5]) end
  if last == nil then
    -- A worker that is new to this sender: those of the oldest epochs make room.
    local names, epochs, seen = redis.call('HKEYS', key), { epoch }, { [epoch] = true }
    for _, name in ipairs(names) do
      local e = string.match(name, '^q:(.-)%.%d+$')
      if e and not seen[e] then
        seen[e] = true
        epochs[#epochs + 1] = e
      end
    end
    if #epochs > 32 then
      table.sort(epochs, function(a, b) return a > b end)
      local keep = {}
      for i = 1, 32 do keep[epochs[i]] = true end
      keep[epoch] = true
      for _, name in ipairs(names) do
        local e = string.match(name, '^q:(.-)%.%d+$')
        if e and not keep[e] then redis.call('HDEL', key, name) end
      end
    end
  end
end
return table.concat(out, '\\0')
`;

/** `clock`: Redis TIME, ms. */
const CLOCK = `local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)`;

/**
 * Adds answers of a source IP to its hash for one provider, and sets its state where one is given.
 *
 * KEYS[1] hash. ARGV: 1 half-life in ms, 2 ok, 3 throttled, 4 blocked, 5 state ("" leaves it), 6 ms until it ends ("" does
 * not), 7 why, 8 ttl in ms, then stage and baseline in ms, by turns. All zero and no state: reads only.
 * Gives: ok, thr, blk, state, ms until it ends (negative: it has, "": does not), why, then stage and baseline by turns.
 */
export const IP_SCRIPT = `
local key = KEYS[1]
${CLOCK}
local flat = redis.call('HGETALL', key)
local h = {}
for i = 1, #flat, 2 do h[flat[i]] = flat[i + 1] end
local num = function(v) return string.format('%.17g', v) end
local t = tonumber(h['t']) or clock
local now = math.max(clock, t)
local factor = 2 ^ (-(now - t) / tonumber(ARGV[1]))
local ok = (tonumber(h['ok']) or 0) * factor + tonumber(ARGV[2])
local thr = (tonumber(h['thr']) or 0) * factor + tonumber(ARGV[3])
local blk = (tonumber(h['blk']) or 0) * factor + tonumber(ARGV[4])
local state, ends, why = h['state'] or 'normal', tonumber(h['until']) or 0, h['why'] or ''
if ARGV[5] ~= '' then
  state, why = ARGV[5], ARGV[7]
  ends = ARGV[6] == '' and 0 or clock + ARGV[6]
end
if ARGV[5] ~= '' or tonumber(ARGV[2]) + tonumber(ARGV[3]) + tonumber(ARGV[4]) > 0 then
  redis.call('HSET', key, 't', num(now), 'ok', num(ok), 'thr', num(thr), 'blk', num(blk),
    'state', state, 'until', num(ends), 'why', why)
  for i = 9, #ARGV, 2 do
    redis.call('HSET', key, 'b:' .. ARGV[i], ARGV[i + 1])
    h['b:' .. ARGV[i]] = ARGV[i + 1]
  end
  redis.call('PEXPIRE', key, ARGV[8])
end
local out = { num(ok), num(thr), num(blk), state, ends == 0 and '' or num(ends - clock), why }
for name, value in pairs(h) do
  if string.sub(name, 1, 2) == 'b:' then
    out[#out + 1] = string.sub(name, 3)
    out[#out + 1] = value
  end
end
return out
`;

/**
 * Adds messages of a day. With its time to live in the same call: a connection that breaks between the two would leave the
 * key for ever. KEYS[1] the count. ARGV: 1 messages, 2 ttl in s. Gives the sum.
 */
export const MESSAGES_SCRIPT = `
local total = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return total
`;

/** Enters a pair into the list of those that cool down. KEYS[1] sorted set. ARGV: 1 pair, 2 ms until its cooling ends. */
export const COOL_SCRIPT = `
${CLOCK}
redis.call('ZADD', KEYS[1], string.format('%.17g', clock + ARGV[2]), ARGV[1])
`;

/**
 * Takes the pairs whose cooling is over off the list, and reads the others. KEYS[1] sorted set. ARGV: 1 how many at most.
 * Gives: pair and when its cooling ends (Redis TIME, ms) by turns.
 */
export const COOLING_SCRIPT = `
${CLOCK}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', clock)
return redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
`;
