"""What happens inside the Redis server in one step: fencing by generation, and pointers moved by compare-and-swap.

Every script names all its keys, and all of them carry one hash tag, so a Cluster runs it on one node. Each checks first and
writes after, so that one that refuses has changed nothing; only the generation is raised when the caller is to try again,
so that an older writer cannot get in its way for ever. An answer is a list that begins with a word: "ok"; "fenced"
and the newer generation; "late" and the newest id; "changed" when a pointer is not what the caller read; "lost" when a part
that was uploaded is gone. `KEYS[1]` of a shard's scripts is its hash, which holds the generation and all of its pointers:
they are lost together or not at all.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple


class Script(NamedTuple):
    """A script and the SHA-1 by which the server remembers it."""

    source: str
    sha: str


def _script(*pieces: str) -> Script:
    source = "\n".join(piece.strip() for piece in pieces)
    return Script(source, hashlib.sha1(source.encode()).hexdigest())


_FENCE: Final = """
local seen = redis.call('HGET', KEYS[1], 'generation')
if seen and tonumber(seen) > tonumber(ARGV[1]) then return {'fenced', seen} end
local function raise()
  if seen ~= ARGV[1] then redis.call('HSET', KEYS[1], 'generation', ARGV[1]) end
end
"""
_PARTS: Final = """
local function lost(first, last)
  for i = first, last do
    if redis.call('EXISTS', KEYS[i]) == 0 then return true end
  end
  return false
end
local function keep(first, last) for i = first, last do redis.call('PERSIST', KEYS[i]) end end
local function expire(first, last, seconds) for i = first, last do redis.call('EXPIRE', KEYS[i], seconds) end end
local function drop(first, last) for i = first, last do redis.call('UNLINK', KEYS[i]) end end
"""

# ARGV: generation.
CLAIM: Final = _script(_FENCE, "raise()", "return {'ok'}")

# ARGV: generation, document. Answers with the tag of the publication, if there is one.
PUT_STATUS: Final = _script(_FENCE, """
raise()
redis.call('HSET', KEYS[1], 'status', ARGV[2])
return {'ok', redis.call('HGET', KEYS[1], 'tag')}
""")  # fmt: skip

# KEYS: the store's counter. ARGV: a floor. The next id is above both.
NEXT_ID: Final = _script("""
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return redis.call('INCR', KEYS[1])
""")

# KEYS: shard, the new parts, the parts of what is dropped.
# ARGV: generation, id, pointer, number of new parts, then for each checkpoint to drop: id, pointer as read, number of parts.
# One that changed since it was read (it was set aside) is not dropped.
_ADD: Final = """
local last = redis.call('HGET', KEYS[1], 'last')
if last and tonumber(last) >= tonumber(ARGV[2]) then
  if redis.call('HGET', KEYS[1], 'c:' .. ARGV[2]) == ARGV[3] then return {'ok'} end
  raise()
  return {'late', last}
end
local n = tonumber(ARGV[4])
if lost(2, n + 1) then return {'lost'} end
raise()
redis.call('HSET', KEYS[1], 'c:' .. ARGV[2], ARGV[3], 'last', ARGV[2])
keep(2, n + 1)
local at = n + 2
for i = 5, #ARGV, 3 do
  local parts = tonumber(ARGV[i + 2])
  if redis.call('HGET', KEYS[1], 'c:' .. ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], 'c:' .. ARGV[i])
    drop(at, at + parts - 1)
  end
  at = at + parts
end
return {'ok'}
"""
PUT_CHECKPOINT: Final = _script(_FENCE, _PARTS, _ADD)

# As above; it is put back as it was, so no writer is refused for it, and none that is newer is fenced by it.
RESTORE_CHECKPOINT: Final = _script("""
local seen = redis.call('HGET', KEYS[1], 'generation')
local function raise()
  if not seen or tonumber(seen) < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'generation', ARGV[1]) end
end
""", _PARTS, _ADD)  # fmt: skip

# KEYS: shard. ARGV: id, its pointer as read, the new pointer.
SET_ASIDE: Final = _script("""
if redis.call('HGET', KEYS[1], 'c:' .. ARGV[1]) ~= ARGV[2] then return {'changed'} end
redis.call('HSET', KEYS[1], 'c:' .. ARGV[1], ARGV[3])
return {'ok'}
""")

# KEYS: shard, the new parts, those of the publication there is, those of the one before.
# ARGV: generation, a first tag, pointer, the two pointers as read ('' for none), the three numbers of parts, grace in seconds,
# channel, message. The parts of the one that is replaced live on for the grace, for readers that have begun.
PUT_PUBLICATION: Final = _script(_FENCE, _PARTS, """
local function pointer(name) return redis.call('HGET', KEYS[1], name) or '' end
if pointer('publication') ~= ARGV[4] or pointer('previous') ~= ARGV[5] then
  raise()
  return {'changed'}
end
local fresh = 1 + tonumber(ARGV[6])
local current = fresh + tonumber(ARGV[7])
if lost(2, fresh) then return {'lost'} end
raise()
redis.call('HSETNX', KEYS[1], 'tag', ARGV[2])
local tag = redis.call('HINCRBY', KEYS[1], 'tag', 1)
redis.call('HSET', KEYS[1], 'publication', ARGV[3], 'previous', ARGV[4])
keep(2, fresh)
expire(fresh + 1, current, ARGV[9])
drop(current + 1, current + tonumber(ARGV[8]))
redis.call('PUBLISH', ARGV[10], ARGV[11])
return {'ok', tag}
""")  # fmt: skip

# KEYS: shard. ARGV: the tag that the reader knows, '' for none. Nothing, or the tag and the pointer.
GET_PUBLICATION: Final = _script("""
local found = redis.call('HMGET', KEYS[1], 'tag', 'publication')
if not found[2] or found[1] == ARGV[1] then return false end
return found
""")

# KEYS: shard, its pieces, the new parts, the old ones.
# ARGV: generation, name, pointer, the pointer as read ('' for none), the two numbers of parts.
PUT_PIECE: Final = _script(_FENCE, _PARTS, """
if (redis.call('HGET', KEYS[2], ARGV[2]) or '') ~= ARGV[4] then
  raise()
  return {'changed'}
end
local fresh = 2 + tonumber(ARGV[5])
if lost(3, fresh) then return {'lost'} end
raise()
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
keep(3, fresh)
drop(fresh + 1, fresh + tonumber(ARGV[6]))
return {'ok'}
""")  # fmt: skip

# KEYS: shard, its pieces, the parts. ARGV: generation, name, the pointer as read.
DROP_PIECE: Final = _script(_FENCE, _PARTS, """
raise()
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then return {'changed'} end
redis.call('HDEL', KEYS[2], ARGV[2])
drop(3, #KEYS)
return {'ok'}
""")  # fmt: skip

# KEYS: the shard's versions, or their pieces, the new parts, the old ones.
# ARGV: version (and name), pointer, the pointer as read ('' for none), the two numbers of parts, grace in seconds.
PUT_VERSION: Final = _script(_PARTS, """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[3] then return {'changed'} end
local fresh = 1 + tonumber(ARGV[4])
if lost(2, fresh) then return {'lost'} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
keep(2, fresh)
expire(fresh + 1, fresh + tonumber(ARGV[5]), ARGV[6])
return {'ok'}
""")  # fmt: skip

# KEYS: the shard's versions, or their pieces, the parts. ARGV: version (and name), the pointer as read.
DROP_VERSION: Final = _script(_PARTS, """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return {'changed'} end
redis.call('HDEL', KEYS[1], ARGV[1])
drop(2, #KEYS)
return {'ok'}
""")  # fmt: skip

# KEYS: offset, kinds, order of arrival, then for each kind its documents and its order.
# ARGV: offset, the number of kinds, their names, then for each document: the number of its kind from 0, its id, itself.
PUT_VIEWS: Final = _script("""
local kinds = tonumber(ARGV[2])
redis.call('SET', KEYS[1], ARGV[1])
for i = 1, kinds do redis.call('SADD', KEYS[2], ARGV[2 + i]) end
for i = 3 + kinds, #ARGV, 3 do
  local docs = 4 + 2 * tonumber(ARGV[i])
  if redis.call('HSET', KEYS[docs], ARGV[i + 1], ARGV[i + 2]) == 1 then
    redis.call('ZADD', KEYS[docs + 1], redis.call('INCR', KEYS[3]), ARGV[i + 1])
  end
end
return {'ok'}
""")

# KEYS: a kind's documents and their order. All of them: ids in order, then ids and documents.
GET_VIEWS: Final = _script("return {redis.call('ZRANGE', KEYS[2], 0, -1), redis.call('HGETALL', KEYS[1])}")

# As above, for the ids in ARGV: scores, then documents.
SOME_VIEWS: Final = _script("""
local scores, docs = {}, {}
for i, id in ipairs(ARGV) do
  scores[i] = redis.call('ZSCORE', KEYS[2], id)
  docs[i] = redis.call('HGET', KEYS[1], id)
end
return {scores, docs}
""")

# KEYS: offset, kinds, order of arrival, then every kind's documents and order.
CLEAR_VIEWS: Final = _script("""
if redis.call('SCARD', KEYS[2]) ~= (#KEYS - 3) / 2 then return {'changed'} end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return {'ok'}
""")

# KEYS: the rows of one series, scored by their time. ARGV: time, the row, the SHA-1 of the one that is there, '' for none.
PUT_HISTORY: Final = _script("""
local there = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])[1]
if (there and redis.sha1hex(there) or '') ~= ARGV[3] then return {'changed'} end
if there then redis.call('ZREM', KEYS[1], there) end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
return {'ok'}
""")
