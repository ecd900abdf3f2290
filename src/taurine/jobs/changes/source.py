"""The one source of changes of a process: it asks the ledger four times a second, once for all who listen, and hands each change to those whose it is.

So a listener more costs a look at a dictionary, and a process in which nobody listens asks nothing. The ledger and not the queues is asked: it knows tenants and tags, has the progress, and is
right when a queue is not. Jobs are asked for by their ids. Tenants and tags are feeds: each goes on from the time that it has got to.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import NamedTuple, TypeAlias

from sqlalchemy import Connection

from taurine.clock import Clock
from taurine.errors import InvalidOption, StreamsFull
from taurine.jobs.changes.subscription import Place, Subscription, Topic
from taurine.ledger.changes import OVERLAP_MS, Version, changed_of_tag, changed_of_tenant, versions_of
from taurine.ledger.database import Database
from taurine.ledger.records import JobRecord, get_records
from taurine.ledger.statuses import TERMINAL
from taurine.service import Service

__all__ = ["ChangeSource"]

_INTERVAL = 0.25
_PAGE = 500
_MOST_FEEDS = 500
"""Tenants and tags that are listened to in one process; each is a query a pass."""

_MOST_TO_CATCH_UP = 2000
"""Changes that a listener who comes back is told one by one."""

_MOST_BEHIND_MS = 10_000
"""More than a page each quarter of a second, for so long: a feed gives up telling every change."""

_FeedKey: TypeAlias = tuple[str | None, str | None]


class _Feed:
    """A tenant, or a tag, and who listens to it. now_ms: it tells what is written from then on."""

    def __init__(self, topic: Topic, now_ms: int) -> None:
        self._topic = topic
        self._told: dict[str, Version] = {}
        self._begin(now_ms)
        self.listeners: set[Subscription] = set()

    def _begin(self, now_ms: int) -> None:
        self._began = self._latest = now_ms
        self._told.clear()
        self._at = (now_ms - OVERLAP_MS, "")

    def read(self, connection: Connection, now_ms: int) -> list[Version] | None:
        """The versions that were not told yet, of a page; None when it is so far behind that they are not told one by one."""
        page = _read(self._topic, connection, *self._at)
        new = [version for version in page if self._told.get(version.id) != version]
        self._told |= {version.id: version for version in new}
        if page:
            self._latest = max(self._latest, page[-1].updated_at)
        if len(page) == _PAGE:
            if now_ms - page[-1].updated_at > _MOST_BEHIND_MS:
                self._begin(now_ms)
                return None
            self._at = (page[-1].updated_at, page[-1].id)
        else:
            # From the start of the overlap once more: something may yet be committed there.
            self._at = (self._latest - OVERLAP_MS, "")
            self._told = {key: version for key, version in self._told.items() if version.updated_at >= self._at[0]}
        return [version for version in new if version.updated_at >= self._began]


class ChangeSource(Service[int]):
    """The service: it rests until somebody listens. `run_once` returns how many changes there were."""

    def __init__(self, *, database: Database, clock: Clock, random: Random, interval: float = _INTERVAL) -> None:
        super().__init__(name="changes", interval=interval, clock=clock, random=random)
        self._database = database
        self._jobs: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._feeds: dict[_FeedKey, _Feed] = {}
        self._late: list[Subscription] = []
        self._asked = asyncio.Event()

    def subscribe(self, topic: Topic, *, after: str | None, follow: bool, buffer: int) -> Subscription:
        """A new listener. Of a job, what it is now comes first, unless it stands at `after`; of a tenant or a tag, what has changed since `after`, and nothing of before without it.

        Raises InvalidOption for an `after` that is no position, and StreamsFull when too many tenants and tags are listened to in this process.
        """
        subscription = Subscription(
            topic, after=None if after is None else Place.read(after), follow=follow, buffer=buffer, closed=self._leave
        )
        if topic.job_id is not None:
            self._jobs[topic.job_id].add(subscription)
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
        late, self._late = self._late, []
        await self._catch_up(late)
        ids, feeds, now_ms = list(self._jobs), list(self._feeds.values()), self._now_ms()

        def read(connection: Connection) -> _Seen:
            of_jobs, of_feeds = versions_of(connection, ids), [feed.read(connection, now_ms) for feed in feeds]
            new = [version for version in of_jobs if self._concerns(version)]
            wanted = {version.id for versions in (new, *of_feeds) for version in versions or ()}
            gone = set(ids).difference(version.id for version in of_jobs)
            return _Seen(new, of_feeds, get_records(connection, list(wanted)), gone)

        seen = await self._database.read(read)
        for version in seen.of_jobs:
            _tell(self._jobs.get(version.id, ()), [version], seen.records)
        for job_id in seen.gone:
            for listener in list(self._jobs.get(job_id, ())):
                listener.end("the job's record is no longer kept")
        for feed, versions in zip(feeds, seen.of_feeds, strict=True):
            if versions is not None:
                _tell(feed.listeners, versions, seen.records)
                continue
            for listener in list(feed.listeners):
                listener.tell_to_begin_anew(Place(now_ms, 0))
        return len(seen.of_jobs) + sum(len(versions or ()) for versions in seen.of_feeds)

    async def rest(self, seconds: float) -> None:
        # Who begins to listen is told at once what the job is now.
        await self._clock.wait(self._asked, seconds if self._jobs or self._feeds else None)

    def _concerns(self, version: Version) -> bool:
        """Whether somebody who listens to the job has not been told of the version, or is to be told that it was the last one."""
        return any(
            listener.after != Place.of(version) or (version.status in TERMINAL and listener.ends_with_job)
            for listener in self._jobs.get(version.id, ())
        )

    def _feed_of(self, topic: Topic) -> _Feed:
        if topic.tag is None and topic.tenant is None:
            raise InvalidOption("expected job_id, tag or tenant: what to listen to")
        key = (topic.tag, topic.tenant)
        feed = self._feeds.get(key)
        if feed is None:
            if len(self._feeds) >= _MOST_FEEDS:
                raise StreamsFull(f"{_MOST_FEEDS} tenants and tags are listened to in this process already")
            feed = self._feeds[key] = _Feed(topic, self._now_ms())
        return feed

    async def _catch_up(self, late: Sequence[Subscription]) -> None:
        """Tell those who come back what they have missed; the feeds have it already, or never will."""
        for listener in late:
            since = listener.after
            assert since is not None
            reading = partial(_read, listener.topic)
            missed, place = list[Version](), (since.ms - OVERLAP_MS, "")
            while len(missed) < _MOST_TO_CATCH_UP:
                page = await self._database.read(lambda connection, read=reading, place=place: read(connection, *place))
                missed += [version for version in page if Place.of(version) != since]
                if len(page) < _PAGE:
                    break
                place = (page[-1].updated_at, page[-1].id)
            else:
                listener.tell_to_begin_anew(Place(self._now_ms(), 0))
                continue
            ids = [version.id for version in missed]
            records = await self._database.read(lambda connection, ids=ids: get_records(connection, ids))
            _tell([listener], missed, records)

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

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)


class _Seen(NamedTuple):
    """What one look has found. None in place of a feed's versions: it is too far behind."""

    of_jobs: list[Version]
    of_feeds: list[list[Version] | None]
    records: Mapping[str, JobRecord]
    gone: Collection[str]


def _read(topic: Topic, connection: Connection, since: int, after_id: str = "") -> list[Version]:
    if topic.tag is not None:
        return changed_of_tag(connection, topic.tag, since, _PAGE, after_id=after_id)
    assert topic.tenant is not None
    return changed_of_tenant(connection, topic.tenant, since, _PAGE, after_id=after_id)


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
