"""The keys of one queue as the server has them, and as they are to be: the data model, as a test.

`stored` reads all that stands under the queue's base; `expected` builds the same from the model. A key that nobody
knows is a difference. The event stream, the marker and the counter of priorities are left out: what holds of them is
looked at by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from redis import Redis

from property.model import Ask, Model, ModelJob
from taurine.options import Dedup, Keep, to_milliseconds

__all__ = ["Keyspace", "expected", "expiring", "stored", "without_freedom"]

Keyspace: TypeAlias = dict[str, Any]
"""By key suffix: a list, a set, a dict of a sorted set's scores or a hash's fields, or a text."""

_READ = """
local found, cursor = {}, '0'
local read = {
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  hash = function(key) return redis.call('HGETALL', key) end,
  string = function(key) return redis.call('GET', key) end,
  stream = function() return '' end,
}
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local type = redis.call('TYPE', key).ok
    found[#found + 1] = { key, type, redis.call('PTTL', key), read[type](key) }
  end
until cursor == '0'
return found
"""

_NUMBERS = frozenset(("timestamp", "delay", "priority", "processedOn", "finishedOn", "ats", "atm", "stc", "progress"))
_JSON = frozenset(("opts", "data", "parent"))
_OF_SETTINGS = frozenset(("opts.maxLenEvents", "version"))


def stored(raw: Redis, base: str) -> tuple[Keyspace, dict[str, bool]]:
    """Everything under `base`, and of each key whether it expires."""
    keys: Keyspace = {}
    expires: dict[str, bool] = {}
    for key, kind, ttl, content in raw.eval(_READ, 0, base + "*"):  # pyright: ignore[reportGeneralTypeIssues] - sync client
        suffix = key.removeprefix(base)
        keys[suffix] = _decoded(kind, content)
        expires[suffix] = ttl >= 0
    return keys, expires


def _decoded(kind: str, content: Any) -> Any:
    if kind == "set":
        return set(content)
    if kind == "zset":
        return {member: float(score) for member, score in zip(content[::2], content[1::2], strict=True)}
    if kind == "hash":
        return {name: _field(name, value) for name, value in zip(content[::2], content[1::2], strict=True)}
    return content


def _field(name: str, value: str) -> Any:
    if name in _NUMBERS:
        return int(value)
    return json.loads(value) if name in _JSON else value


def expected(model: Model, base: str) -> Keyspace:
    """What is to stand under `base`, without empty collections."""
    keys: Keyspace = {
        "wait": model.wait,
        "active": model.active,
        "prioritized": {stored_id: float(priority) for stored_id, (priority, _) in model.prioritized.items()},
        "delayed": {stored_id: due * 4096.0 + order for stored_id, (due, order) in model.delayed.items()},
        "waiting-children": model.waiting_children,
        "completed": model.completed,
        "failed": model.failed,
        "stalled": model.suspects,
        "repeat": {name: float(scheduler.due) for name, scheduler in model.schedulers.items()},
        "id": str(model.last_number) if model.last_number else "",
        "limiter": "" if model.starts is None else str(model.starts),
        "meta": _settings(model),
    }
    for job in model.jobs.values():
        keys |= _job_keys(job, base)
    for dedup_id, owner in model.owners.items():
        keys[f"de:{dedup_id}"] = owner.id
    for dedup_id, (stored_id, ask, released_by) in model.followers.items():
        keys[f"dn:{dedup_id}"] = {
            "name": "n",
            "data": ask.data,
            "opts": _wire_options(ask, base),
            "jid": stored_id,
            **({"of": released_by} if released_by else {}),
        }
    for name, scheduler in model.schedulers.items():
        keys[f"repeat:{name}"] = {
            "name": name,
            "ic": str(scheduler.runs),
            "offset": str(scheduler.offset),
            "every": str(scheduler.every),
            "data": scheduler.data,
            "opts": {"stackTraceLimit": 0},
        }
    return {key: content for key, content in keys.items() if content}


def expiring(model: Model) -> set[str]:
    """The keys that the server is to remove by itself."""
    locks = {f"{job.id}:lock" for job in model.jobs.values() if job.lock}
    throttles = {f"de:{name}" for name, owner in model.owners.items() if owner.expires}
    return locks | throttles | (set() if model.starts is None else {"limiter"})


def without_freedom(keys: Keyspace) -> Keyspace:
    """`keys` as `expected` has them: what the engine may choose itself is left out."""
    kept = {
        suffix: content for suffix, content in keys.items() if suffix not in ("events", "marker", "pc", "stalled-check")
    }
    if "prioritized" in kept:
        kept["prioritized"] = {member: float(score // 2**32) for member, score in kept["prioritized"].items()}
    if "meta" in kept:
        kept["meta"] = {name: value for name, value in kept["meta"].items() if name not in _OF_SETTINGS}
    for suffix, content in kept.items():
        if isinstance(content, dict) and "rjk" in content:
            kept[suffix] = {**content, "opts": None}
    return {suffix: content for suffix, content in kept.items() if content}


def _settings(model: Model) -> dict[str, str]:
    settings = {
        "paused": "1" if model.paused else "",
        "concurrency": str(model.concurrency or ""),
        "max": str(model.rate or ""),
        "duration": "3600000" if model.rate else "",
    }
    return {name: value for name, value in settings.items() if value}


def _job_keys(job: ModelJob, base: str) -> Keyspace:
    fields = {
        "name": job.scheduler or "n",
        "data": job.ask.data if job.data is None else job.data,
        "opts": None if job.scheduler else _wire_options(job.ask, base),
        "timestamp": job.created,
        "delay": job.delay,
        "priority": job.priority,
    }
    optional = {
        "ats": job.started or None,
        "atm": job.made or None,
        "stc": job.stalls or None,
        "processedOn": job.processed_at,
        "finishedOn": job.finished_at,
        "returnvalue": job.result,
        "failedReason": job.reason,
        "stacktrace": job.traces,
        "defa": _deferred(job, base),
        "progress": job.progress,
        "deid": job.dedup_id,
        "rjk": job.scheduler,
        "parentKey": base + job.parent if job.parent else None,
        "parent": _parent_member(job.parent, job.policy, base) if job.parent else None,
    }
    fields |= {name: value for name, value in optional.items() if value is not None}
    return {
        job.id: fields,
        f"{job.id}:lock": job.lock or "",
        f"{job.id}:logs": job.logs,
        f"{job.id}:dependencies": {base + child for child in job.pending},
        f"{job.id}:processed": {base + child: value for child, value in job.processed.items()},
        f"{job.id}:failed": {base + child: reason for child, reason in job.ignored.items()},
        f"{job.id}:unsuccessful": {base + child: float(at) for child, at in job.unsuccessful.items()},
    }


def _deferred(job: ModelJob, base: str) -> str | None:
    if job.deferred == "stalled":
        return "job stalled more than allowable limit"
    return None if job.deferred is None else f"child {base}{job.deferred} failed"


_FLAGS = {"fail": "fpof", "continue": "cpof", "ignore": "idof", "remove": "rdof"}


def _parent_member(parent: str, policy: str | None, base: str) -> Mapping[str, Any]:
    link: dict[str, Any] = {"id": parent, "queueKey": base[:-1]}
    return {**link, _FLAGS[policy]: True} if policy else link


def _wire_options(ask: Ask, base: str) -> dict[str, Any]:
    """The options as BullMQ has them."""
    options: dict[str, Any] = {
        "attempts": ask.attempts if ask.attempts > 1 else None,
        "priority": ask.priority or None,
        "lifo": ask.lifo or None,
        "delay": ask.delay or None,
        "backoff": {"type": "fixed", "delay": ask.backoff} if ask.backoff else None,
        "removeOnComplete": _keep(ask.keep_completed),
        "removeOnFail": _keep(ask.keep_failed),
        "de": _dedup(ask.dedup) if ask.dedup else None,
        "parent": {"id": ask.parent, "queue": base[:-1]} if ask.parent else None,
        "jobId": ask.stored_id or None,
        "timestamp": ask.timestamp or None,
        "stackTraceLimit": 0,
    }
    if ask.policy:
        options[_FLAGS[ask.policy]] = True
    return {name: value for name, value in options.items() if value is not None}


def _keep(keep: bool | int | Keep | None) -> Any:
    if not isinstance(keep, Keep):
        return keep
    members = {"count": keep.count, "age": None if keep.age is None else int(to_milliseconds(keep.age, "age") / 1000)}
    return {name: value for name, value in members.items() if value is not None}


def _dedup(dedup: Dedup) -> dict[str, Any]:
    members: dict[str, Any] = {
        "id": dedup.id,
        "ttl": None if dedup.ttl is None else to_milliseconds(dedup.ttl, "ttl"),
        "extend": dedup.extend or None,
        "replace": dedup.replace or None,
        "reschedule": dedup.reschedule or None,
        "keepLastIfActive": dedup.keep_last_if_active or None,
    }
    return {name: value for name, value in members.items() if value is not None}
