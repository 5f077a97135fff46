//! What Redis does in one step, in Lua. A script reads the fields that it needs and nothing else.
//!
//! A state is a hash: `v` its epoch, `s` the state, `u` the instant from which on nothing of it matters, and `p` the newest
//! state of the epochs that were complete when `s` was written.

/// Who feeds: nobody else may, until it is let go or expires. Gives who has it and for how long, or nothing.
pub(super) const LEASE: &str = r"
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {holder, redis.call('PTTL', KEYS[1])} end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {}";

/// Who feeds, from now on, whoever did. As above, removing first: a Redis that is full refuses what begins with a write
/// of something, and a feeder must get in to remove.
pub(super) const DEPOSE: &str = r"
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// Lets it go.
pub(super) const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1";

/// Writes states of an epoch where older ones stand. Gives how many, or -1 to who is no feeder any more. A state is the first
/// thing written, so that a Redis without room for it refuses all of the script.
pub(super) const WRITE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local epoch, complete, written = tonumber(ARGV[3]), tonumber(ARGV[4]), 0
for i = 2, #KEYS do
  local found = tonumber(redis.call('HGET', KEYS[i], 'v') or '-1')
  if found < epoch then
    if found >= 0 and found <= complete then
      redis.call('HSET', KEYS[i], 'p', redis.call('HGET', KEYS[i], 's'))
    end
    redis.call('HSET', KEYS[i], 'v', ARGV[3], 'u', ARGV[5], 's', ARGV[i + 4])
    written = written + 1
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return written";

/// Moves the marker, never back within a generation. Gives 1 when it moved, or -1 to who is no feeder any more.
pub(super) const MARK: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if redis.call('HGET', KEYS[2], 'generation') == ARGV[3]
  and tonumber(redis.call('HGET', KEYS[2], 'epoch') or '-1') >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[2], 'generation', ARGV[3], 'epoch', ARGV[4], 'published_at_us', ARGV[5], 'floor_us', ARGV[6])
return 1";

/// The marker, and of a generation the states that it answers with; '' for a stranger. Of another generation the marker alone.
pub(super) const READ: &str = r"
local told = redis.call('HMGET', KEYS[1], 'generation', 'epoch', 'published_at_us', 'floor_us')
if not told[1] then return {} end
if told[1] ~= ARGV[1] then return told end
local epoch = tonumber(told[2])
for i = 2, #KEYS do
  local found = tonumber(redis.call('HGET', KEYS[i], 'v') or '-1')
  if found < 0 then told[i + 3] = ''
  elseif found <= epoch then told[i + 3] = redis.call('HGET', KEYS[i], 's') or ''
  else told[i + 3] = redis.call('HGET', KEYS[i], 'p') or '' end
end
return told";

/// Removes states of which nothing matters any more. Gives how many, or -1 to who is no feeder any more.
pub(super) const SWEEP: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local floor, removed = tonumber(ARGV[3]), 0
for i = 2, #KEYS do
  if tonumber(redis.call('HGET', KEYS[i], 'u') or '0') < floor then
    removed = removed + redis.call('UNLINK', KEYS[i])
  end
end
return removed";

/// Removes keys. Gives how many, or -1 to who is no feeder any more; without keys the feeder only stays it.
pub(super) const REMOVE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed";
