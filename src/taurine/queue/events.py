"""What happens in a queue, told to any process: typed events, read from the queue's stream.

    async with QueueEvents("emails", url) as happenings:
        async for event in happenings:
            match event:
                case events.Completed(job_id=job_id, result=result): ...

Events are news, not records: the stream is short, and what was cut off before it was read is gone. `last_id` lets a
reader go on where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption, StoreUnavailable
from taurine.ids import public_id
from taurine.options import Seconds, to_seconds
from taurine.pauses import Pauses
from taurine.queue.connection import Connection, Target
from taurine.queue.event_stream import Entry, EventStream, stream_order
from taurine.queue.keys import QueueKeys
from taurine.queue.scripts import Argument
from taurine.queue.store import QueueStore
from taurine.queue.wire import decode_json

__all__ = [
    "Active", "Added", "Cleaned", "Completed", "Custom", "Deduplicated", "Delayed", "Drained", "Duplicated", "Event", "Failed", "JobEvent",
    "Paused", "Progress", "QueueEvents", "Removed", "Resumed", "RetriesExhausted", "Stalled", "Waiting", "WaitingChildren", "parse_event", "publish",
]  # fmt: skip

log = logging.getLogger("taurine.queue")

_MOST_FIELDS = 1000
"""Fields of a published event: the script's unpack ends at some thousands of values."""


# The events -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a queue."""

    _name: ClassVar[str] = ""
    id: str
    """Its place in the stream; `QueueEvents(last_id=…)` goes on after it."""

    @property
    def name(self) -> str:
        """What the event is called on the wire: `completed`, `retries-exhausted` and so on."""
        return self._name

    @property
    def at(self) -> float:
        """When it was written, wall seconds of the server."""
        return stream_order(self.id)[0] / 1000


@dataclass(frozen=True, slots=True)
class JobEvent(Event):
    """Something that happened to one job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Added(JobEvent):
    """A job was stored."""

    _name: ClassVar[str] = "added"
    job_name: str


@dataclass(frozen=True, slots=True)
class Waiting(JobEvent):
    """A job is in line. `previous` is the state it came from; None for a new one."""

    _name: ClassVar[str] = "waiting"
    previous: str | None


@dataclass(frozen=True, slots=True)
class Delayed(JobEvent):
    """A job runs at `due_at`, wall seconds, or later."""

    _name: ClassVar[str] = "delayed"
    due_at: float


@dataclass(frozen=True, slots=True)
class WaitingChildren(JobEvent):
    """A job waits for its children."""

    _name: ClassVar[str] = "waiting-children"
    previous: str | None


@dataclass(frozen=True, slots=True)
class Active(JobEvent):
    """A worker started a job."""

    _name: ClassVar[str] = "active"
    previous: str | None


@dataclass(frozen=True, slots=True)
class Completed(JobEvent):
    """A job ended with `result`."""

    _name: ClassVar[str] = "completed"
    result: Any
    previous: str | None


@dataclass(frozen=True, slots=True)
class Failed(JobEvent):
    """A job failed for good. An attempt that is to be retried is told as Waiting or Delayed."""

    _name: ClassVar[str] = "failed"
    reason: str
    previous: str | None


@dataclass(frozen=True, slots=True)
class RetriesExhausted(JobEvent):
    """A job failed for good since no attempt was left; it follows Failed."""

    _name: ClassVar[str] = "retries-exhausted"
    attempts_made: int


@dataclass(frozen=True, slots=True)
class Progress(JobEvent):
    """A job reported how far it is."""

    _name: ClassVar[str] = "progress"
    value: Any


@dataclass(frozen=True, slots=True)
class Stalled(JobEvent):
    """A job whose worker is gone was put back in line; it follows Waiting."""

    _name: ClassVar[str] = "stalled"


@dataclass(frozen=True, slots=True)
class Duplicated(JobEvent):
    """A job was not added since one of its id is stored."""

    _name: ClassVar[str] = "duplicated"


@dataclass(frozen=True, slots=True)
class Deduplicated(JobEvent):
    """Of two jobs with one deduplication id, `job_id` was kept and `dropped_job_id` was not."""

    _name: ClassVar[str] = "deduplicated"
    deduplication_id: str
    dropped_job_id: str


@dataclass(frozen=True, slots=True)
class Removed(JobEvent):
    """A job was removed by hand; `previous` is where it was."""

    _name: ClassVar[str] = "removed"
    previous: str | None


@dataclass(frozen=True, slots=True)
class Cleaned(Event):
    """`count` old jobs were removed."""

    _name: ClassVar[str] = "cleaned"
    count: int


@dataclass(frozen=True, slots=True)
class Drained(Event):
    """The last job ended, and none is in line."""

    _name: ClassVar[str] = "drained"


@dataclass(frozen=True, slots=True)
class Paused(Event):
    """The queue was paused."""

    _name: ClassVar[str] = "paused"


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """The queue was resumed."""

    _name: ClassVar[str] = "resumed"


@dataclass(frozen=True, slots=True)
class Custom(Event):
    """An event that somebody published under a name of their own, or a known one whose fields cannot be read."""

    given_name: str
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.given_name


# From the stream ----------------------------------------------------------------------------------------------------------------

_Fields = Mapping[str, str]

_READERS: dict[str, Callable[[str, _Fields], Event]] = {
    "added": lambda at, f: Added(at, _job(f), f["name"]),
    "waiting": lambda at, f: Waiting(at, _job(f), f.get("prev")),
    "delayed": lambda at, f: Delayed(at, _job(f), float(f["delay"]) / 1000),
    "waiting-children": lambda at, f: WaitingChildren(at, _job(f), f.get("prev")),
    "active": lambda at, f: Active(at, _job(f), f.get("prev")),
    "completed": lambda at, f: Completed(at, _job(f), decode_json(f["returnvalue"]), f.get("prev")),
    "failed": lambda at, f: Failed(at, _job(f), f["failedReason"], f.get("prev")),
    "retries-exhausted": lambda at, f: RetriesExhausted(at, _job(f), int(f["attemptsMade"])),
    "progress": lambda at, f: Progress(at, _job(f), decode_json(f["data"])),
    "stalled": lambda at, f: Stalled(at, _job(f)),
    "duplicated": lambda at, f: Duplicated(at, _job(f)),
    "deduplicated": lambda at, f: Deduplicated(at, _job(f), f["deduplicationId"], public_id(f["deduplicatedJobId"])),
    "removed": lambda at, f: Removed(at, _job(f), f.get("prev")),
    "cleaned": lambda at, f: Cleaned(at, int(f["count"])),
    "drained": lambda at, _: Drained(at),
    "paused": lambda at, _: Paused(at),
    "resumed": lambda at, _: Resumed(at),
}

# Node's listeners turn an event of this name into an error of their own.
_RESERVED = frozenset({*_READERS, "error"})


def _job(fields: _Fields) -> str:
    return public_id(fields["jobId"])


def parse_event(entry: Entry) -> Event | None:
    """The event of a stream entry; None for an entry that names no event.

    Never raises: what cannot be read comes as Custom.
    """
    raw_id, flat = entry
    at = raw_id.decode()
    texts = [raw.decode("utf-8", "replace") for raw in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=False))
    name = fields.pop("event", None)
    if name is None:
        return None
    read = _READERS.get(name)
    if read is not None:
        try:
            return read(at, fields)
        except (KeyError, ValueError, RecursionError) as error:
            log.warning(
                "event %s %r cannot be read (%s: %s); it is passed on as it is", at, name, type(error).__name__, error
            )
    return Custom(at, name, fields)


async def publish(store: QueueStore, name: str, fields: Mapping[str, str | float]) -> str:
    """Append an event of one's own to the queue's stream; returns its id.

    Listeners get it as Custom, with values as text; Node's listeners by its name. The stream's length limit stays the
    queue's.
    Raises InvalidOption for a name that the queue itself uses, StoreUnavailable or StoreRefused.
    """
    if not name or not name.isprintable() or name in _RESERVED:
        raise InvalidOption(
            f"expected an event name that is printable and not one of the queue's own, got {name!r:.80}"
        )
    if "event" in fields or len(fields) > _MOST_FIELDS:
        raise InvalidOption(f"expected at most {_MOST_FIELDS} fields, none of them called 'event'")
    words: list[Argument] = [word for field in fields.items() for word in field]
    return (await store.run("publish_event", name, *words)).decode()


class QueueEvents:
    """Listens to one queue: an async iterator of its events, in order, that ends when it is closed.

    queue: the queue's name. target: a URL, a ready `redis.asyncio.Redis`, or a Connection. prefix: what the queue's
    keys start with. Default: "bull".
    last_id: the `id` of an event; listen from the next one on, as far as the stream still holds it. "0": from the
    oldest that it holds.
    Default: "$", from now on; "now" is when the `async with` block is entered, or the first event is asked for.
    block: seconds that one read waits on the server. Default: 10.

    An outage is waited out, and listening goes on where it stopped. Events are read as they are asked for: a slow
    listener holds no memory, and misses what the queue cuts from its stream meanwhile (`trim_events`; about 10,000 are
    kept). Raises InvalidOption or InvalidName.
    """

    def __init__(
        self,
        queue: str,
        target: Target,
        *,
        prefix: str = "bull",
        last_id: str = "$",
        block: Seconds = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._store = QueueStore(QueueKeys(queue, prefix), Connection.to(target), clock or SystemClock())
        self._owns_connection = not isinstance(target, Connection)
        self._stream = EventStream(
            self._store.connection,
            self._store.keys,
            position=_checked_position(last_id),
            block=to_seconds(block, "block", minimum=0.01, maximum=3600),
        )
        self._handed_out = last_id
        self._waiting: deque[Event] = deque()
        self._closed = False

    @property
    def last_id(self) -> str:
        """The id of the event that was handed out last; to go on after it, later or elsewhere.

        Before the first event: where listening began, or "$" when it has not.
        """
        if self._handed_out == "$":
            return self._stream.position or "$"
        return self._handed_out

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises StoreRefused when the server turns the listener away; asking again is possible after any error.
        """
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            await self._fetch()
        event = self._waiting.popleft()
        self._handed_out = event.id
        return event

    async def _fetch(self) -> None:
        pauses = Pauses()
        while not self._closed:
            try:
                entries = await self._stream.read()
            except StoreUnavailable as error:
                if self._closed:
                    return
                if not pauses.current:
                    log.warning("events of %s: %s; listening goes on when it is back", self._store.keys.name, error)
                await asyncio.sleep(pauses.failed())
                continue
            self._waiting.extend(event for event in map(parse_event, entries) if event is not None)
            return

    async def publish(self, name: str, **fields: str | float) -> str:
        """Append an event of one's own to the queue's stream; returns its id. Everyone who listens gets it as Custom.

        Raises InvalidOption for a name that the queue itself uses, StoreUnavailable or StoreRefused.
        """
        return await publish(self._store, name, fields)

    async def close(self) -> None:
        """End the iteration and close the connections. Safe to call twice."""
        self._closed = True
        self._waiting.clear()
        await self._stream.close()
        if self._owns_connection:
            await self._store.connection.close()

    async def __aenter__(self) -> Self:
        """Begin to listen. Raises StoreUnavailable or StoreRefused."""
        try:
            await self._stream.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _checked_position(last_id: str) -> str | None:
    if last_id == "$":
        return None
    milliseconds, dash, sequence = last_id.partition("-")
    if not milliseconds.isdecimal() or not (sequence.isdecimal() if dash else True):
        raise InvalidOption(f"expected last_id to be an event's id, '0' or '$', got {last_id!r:.80}")
    return last_id
