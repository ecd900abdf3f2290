"""The one source of changes of a process: it asks the ledger four times a second, once for all who listen, and hands
each change to those whose it is.

So a listener more costs a look at a dictionary, and a process in which nobody listens asks nothing. The ledger and not
the queues is asked: it knows tenants and tags, has the progress, and is right when a queue is not. Jobs are asked for
by their ids. Tenants and tags are feeds: each goes on from the time that it has got to.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection

from taurine.clock import Clock, now_ms
from taurine.errors import InvalidOption, StreamsFull
from taurine.jobs.changes.subscription import Place, Subscription, Topic
from taurine.ledger.changes import (
    OVERLAP_MS,
    Version,
    changed_of_tag,
    changed_of_tag_in_tenant,
    changed_of_tenant,
    versions_of,
)
from taurine.ledger.database import Database
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.service import Service

__all__ = ["ChangeSource"]

_INTERVAL = 0.25
_WHOLE_LOOKS = 16
"""Each so many looks the followed jobs are looked at whatever their time: a worker's clock may be behind, and a record
may have gone.
"""

_RECENT_MS = 5000
"""How far back the other looks go. Most jobs that are followed have not changed for longer, and cost next to nothing."""

_PAGE = 500
_MOST_FEEDS = 500
"""Tenants and tags that are listened to in one process; each is a query a pass."""

_MOST_FEEDS_OF_A_TENANT = 100
"""Any tag may be asked for, whether a job has it or not, so one tenant's callers could have all the feeds, and others
none.
"""

_MOST_FEEDS_WITHOUT_TENANT = 250
"""The share of those that belong to no tenant: in an application without tenants these are all there are."""

_AT_ONCE = 50
"""Changes that a listener is told of before it may read: fewer than any sensible buffer holds."""

_MOST_TO_CATCH_UP = 2000
"""Changes that a listener who comes back is told one by one."""

_MOST_TO_LOOK_THROUGH = 5000
"""Changes of a tenant among which those of a tag are looked for, for one who comes back: all others wait meanwhile."""

_MOST_BEHIND_MS = 10_000
"""More than a page each quarter of a second, for so long: a feed gives up telling every change."""

_FeedKey: TypeAlias = tuple[str | None, str | None]


class _Reached(NamedTuple):
    """How far a feed has got. told: the newest versions that were told, of the time that is read again."""

    at: tuple[int, str]
    """The time and the id behind which the next page begins."""
    latest: int
    told: Mapping[str, Version]
    since: int | None
    """Until all has been read once: what is older, ms, was there before, and is not told. None afterwards."""

    @classmethod
    def now(cls, now: int) -> _Reached:
        return cls((now - OVERLAP_MS, ""), now, {}, now)


class _Page(NamedTuple):
    """Up to `_PAGE` versions that were looked at, in the order of their time, and which of them are what was looked
    for.
    """

    looked_at: list[Version]
    found: list[Version]

    @property
    def is_last(self) -> bool:
        return len(self.looked_at) < _PAGE

    @property
    def end(self) -> tuple[int, str]:
        """The time and the id behind which the next page begins. There is one at least."""
        last = self.looked_at[-1]
        return last.updated_at, last.id


class _Look(NamedTuple):
    """What a look at a feed has found: versions that were not told yet, or None when it is too far behind; and how far
    it has got, once they are told.
    """

    new: list[Version] | None
    reached: _Reached


class _Feed:
    """A tenant, a tag, or a tag within a tenant, and who listens to it. now: it tells what is written from then on."""

    def __init__(self, topic: Topic, now: int) -> None:
        self._topic = topic
        self._reached = _Reached.now(now)
        self.listeners: set[Subscription] = set()

    def read(self, connection: Connection, now: int) -> _Look:
        """Look at one page. Nothing is noted before `note`: a look may fail, and may be taken twice."""
        at, latest, told, since = self._reached
        page = _read(self._topic, connection, *at)
        new = [version for version in page.found if told.get(version.id) != version]
        told = {**told, **{version.id: version for version in new}}
        shown = [version for version in new if since is None or version.updated_at >= since]
        if not page.is_last:
            if now - page.end[0] > _MOST_BEHIND_MS:
                return _Look(None, _Reached.now(now))
            return _Look(shown, _Reached(page.end, latest, told, since))
        if page.looked_at:
            # Not beyond now: the clock of one who writes may be ahead of those of all others.
            latest = max(latest, min(page.end[0], now))
        # From the start of the overlap once more: something may yet be committed there.
        first = latest - OVERLAP_MS
        kept = {key: version for key, version in told.items() if version.updated_at >= first}
        return _Look(shown, _Reached((first, ""), latest, kept, None))

    def note(self, look: _Look) -> None:
        """What the look has found is known now."""
        self._reached = look.reached


class ChangeSource(Service[int]):
    """The service: it rests until somebody listens. `run_once` returns how many changes there were."""

    def __init__(self, *, database: Database, clock: Clock, random: Random, interval: float = _INTERVAL) -> None:
        super().__init__(name="changes", interval=interval, clock=clock, random=random)
        self._database = database
        self._jobs: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._feeds: dict[_FeedKey, _Feed] = {}
        self._late: list[Subscription] = []
        self._new: set[str] = set()
        self._looks = 0
        self._asked = asyncio.Event()

    def subscribe(self, topic: Topic, *, after: str | None, follow: bool, buffer: int) -> Subscription:
        """A new listener.

        Of a job, what it is now comes first, unless it stands at `after`; of a tenant or a tag, what has changed since
        `after`, and nothing of before without it.

        Raises InvalidOption for an `after` that is no position, and StreamsFull when too many tenants and tags are
        listened to in this process, or too many of the topic's tenant.
        """
        subscription = Subscription(
            topic, after=None if after is None else Place.read(after), follow=follow, buffer=buffer, closed=self._leave
        )
        if topic.job_id is not None:
            self._jobs[topic.job_id].add(subscription)
            self._new.add(topic.job_id)
        else:
            self._feed_of(topic).listeners.add(subscription)
            if subscription.after is not None:
                self._late.append(subscription)
        self._asked.set()
        self.start()
        return subscription

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return sum(map(len, self._jobs.values())) + sum(len(feed.listeners) for feed in self._feeds.values())

    async def close(self) -> None:
        """End all streams; who listens is told."""
        await self.stop()
        feeds = [feed.listeners for feed in self._feeds.values()]
        for subscription in {one for listeners in (*self._jobs.values(), *feeds) for one in listeners}:
            subscription.end("the application was closed")

    async def run_once(self) -> int:
        """One look at what is listened to."""
        self._asked.clear()
        await self._catch_up()
        # The work is done in a thread, while listeners come and go here.
        listeners = {job_id: tuple(ones) for job_id, ones in self._jobs.items()}
        ids, feeds, now = list(listeners), list(self._feeds.values()), now_ms(self._clock)
        whole = self._looks % _WHOLE_LOOKS == 0
        new, self._new = self._new & listeners.keys(), set()

        def read(connection: Connection) -> _Seen:
            of_jobs = versions_of(connection, ids, 0 if whole else now - _RECENT_MS)
            if not whole:
                of_jobs += versions_of(connection, list(new))
            looks = [self._look_at(feed, connection, now) for feed in feeds]
            changed = [version for version in dict.fromkeys(of_jobs) if _concerns(version, listeners[version.id])]
            wanted = {version.id for versions in (changed, *(look.new for look in looks)) for version in versions or ()}
            gone = set(ids).difference(version.id for version in of_jobs) if whole else ()
            return _Seen(changed, looks, get_records(connection, list(wanted)), gone)

        try:
            seen = await self._database.read(read)
        except Exception:
            self._new |= new
            raise
        self._looks += 1
        for version in seen.of_jobs:
            _tell(self._jobs.get(version.id, ()), [version], seen.records)
        for job_id in seen.gone:
            for listener in list(self._jobs.get(job_id, ())):
                listener.end("the job's record is no longer kept")
        for feed, look in zip(feeds, seen.of_feeds, strict=True):
            feed.note(look)
        for feed, look in zip(feeds, seen.of_feeds, strict=True):
            await self._tell_feed(feed, look.new, seen.records, now)
        return len(seen.of_jobs) + sum(len(look.new or ()) for look in seen.of_feeds)

    def _look_at(self, feed: _Feed, connection: Connection, now: int) -> _Look:
        # There may be hundreds: a server that is slow with each is no loop that is stuck. A thread may still be here when the loop was stopped.
        if self.running:
            self.heartbeat.turn()
        return feed.read(connection, now)

    async def _tell_feed(
        self, feed: _Feed, versions: Sequence[Version] | None, records: Mapping[str, JobRecord], now: int
    ) -> None:
        if versions is None:
            for listener in list(feed.listeners):
                listener.tell_to_begin_anew(Place(now, 0))
            return
        for first in range(0, len(versions), _AT_ONCE):
            if first:
                await asyncio.sleep(0)  # who reads as fast as it can is not dropped for a burst
            _tell(feed.listeners, versions[first : first + _AT_ONCE], records)

    async def rest(self, seconds: float) -> None:
        # Who begins to listen is told at once what the job is now.
        if self._jobs or self._feeds:
            await self._clock.wait(self._asked, seconds)
            return
        self.heartbeat.rest()
        await self._asked.wait()

    def _feed_of(self, topic: Topic) -> _Feed:
        if topic.tag is None and topic.tenant is None:
            raise InvalidOption("expected job_id, tag or tenant: what to listen to")
        key = (topic.tag, topic.tenant)
        feed = self._feeds.get(key)
        if feed is None:
            self._require_room(topic.tenant)
            feed = self._feeds[key] = _Feed(topic, now_ms(self._clock))
        return feed

    def _require_room(self, tenant: str | None) -> None:
        """Raise StreamsFull where there may be no more feeds, or no more of this tenant."""
        if len(self._feeds) >= _MOST_FEEDS:
            raise StreamsFull(f"{_MOST_FEEDS} tenants and tags are listened to in this process already")
        most = _MOST_FEEDS_WITHOUT_TENANT if tenant is None else _MOST_FEEDS_OF_A_TENANT
        if sum(other == tenant for _, other in self._feeds) >= most:
            whose = "no tenant" if tenant is None else f"the tenant {tenant!r:.80}"
            raise StreamsFull(f"{most} tags that belong to {whose} are listened to in this process already")

    async def _catch_up(self) -> None:
        """Tell those who come back what they have missed; the feeds have it already, or never will.

        Who could not be told, as the ledger is away, is told in the next pass.
        """
        while self._late:
            await self._catch_up_with(self._late[0])
            self._late.pop(0)

    async def _catch_up_with(self, listener: Subscription) -> None:
        since = listener.after
        if since is None or listener.is_over:
            return
        missed = await self._missed_by(listener, since)
        if missed is None:
            listener.tell_to_begin_anew(Place(now_ms(self._clock), 0))
            return
        ids = [version.id for version in missed]
        records = await self._database.read(lambda connection: get_records(connection, ids))
        _tell([listener], missed, records)

    async def _missed_by(self, listener: Subscription, since: Place) -> list[Version] | None:
        """What has changed since, or None where it is too much."""
        # What it could not hold would only end it, and it would come back to the same place.
        most = min(_MOST_TO_CATCH_UP, listener.buffer + 1)
        missed, looked_at, place = list[Version](), 0, (since.ms - OVERLAP_MS, "")
        while looked_at < _MOST_TO_LOOK_THROUGH:
            self.heartbeat.turn()
            page = await self._database.read(lambda connection, place=place: _read(listener.topic, connection, *place))
            missed += [version for version in page.found if Place.of(version) != since]
            if len(missed) >= most:
                return None
            if page.is_last:
                return missed
            looked_at, place = looked_at + len(page.looked_at), page.end
        return None

    def _leave(self, subscription: Subscription) -> None:
        topic = subscription.topic
        if topic.job_id is not None:
            if (listeners := self._jobs.get(topic.job_id)) is not None:
                listeners.discard(subscription)
                if not listeners:
                    del self._jobs[topic.job_id]
            return
        feed = self._feeds.get((topic.tag, topic.tenant))
        if feed is not None:
            feed.listeners.discard(subscription)
            if not feed.listeners:
                del self._feeds[topic.tag, topic.tenant]


class _Seen(NamedTuple):
    """What one pass has found."""

    of_jobs: list[Version]
    of_feeds: list[_Look]
    records: Mapping[str, JobRecord]
    gone: Collection[str]


def _concerns(version: Version, listeners: Collection[Subscription]) -> bool:
    """Whether somebody who listens to the job has not been told of the version, or is to be told that it was the last
    one.
    """
    return any(
        listener.after != Place.of(version) or (version.status in TERMINAL and listener.ends_with_job)
        for listener in listeners
    )


def _read(topic: Topic, connection: Connection, since: int, after_id: str = "") -> _Page:
    if topic.tag is None:
        assert topic.tenant is not None
        versions = changed_of_tenant(connection, topic.tenant, since, _PAGE, after_id=after_id)
    elif topic.tenant is None:
        versions = changed_of_tag(connection, topic.tag, since, _PAGE, after_id=after_id)
    else:
        return _Page(*changed_of_tag_in_tenant(connection, topic.tag, topic.tenant, since, _PAGE, after_id=after_id))
    return _Page(versions, versions)


def _tell(listeners: Iterable[Subscription], versions: Sequence[Version], records: Mapping[str, JobRecord]) -> None:
    for version in versions:
        record = records.get(version.id)
        if record is None:
            continue
        for listener in list(listeners):
            if listener.after == Place.of(version):
                if version.status in TERMINAL and listener.ends_with_job:
                    listener.end()
            elif listener.topic.has(record):
                listener.tell(version, record)
