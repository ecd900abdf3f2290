"""The context of a handler in a process of its own: what it may read came with the attempt, what it says goes to the worker."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sized
from datetime import datetime
from typing import Any, TypeVar

from taurine.errors import AttemptError
from taurine.jobs.executors.link import Link

__all__ = ["ProcessContext"]

ItemT = TypeVar("ItemT")

_handler_log = logging.getLogger("taurine.handler")


class _Yield:
    """What `progress` returns: it may be awaited, which lets others run, and need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield


class ProcessLog:
    """A logger whose lines go to the worker's log and stay with the job. Called itself, it writes at level info."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __call__(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def debug(self, message: str, **fields: Any) -> None:
        self._write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write("error", message, fields)

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        plain = json.loads(json.dumps(fields, default=str))
        _handler_log.log(
            logging.getLevelNamesMapping()[level.upper()], "%s", f"{message} {plain}" if plain else message
        )
        self._link.notify("log", {"level": level, "message": message, "fields": plain})


class ProcessContext:
    """One attempt of one job, as a handler in a process of its own sees it.

    Every member of the snapshot is an attribute: `job_id`, `attempt`, `tenant` and what else the worker's context gives.
    """

    def __init__(self, snapshot: Mapping[str, Any], link: Link) -> None:
        self._snapshot = dict(snapshot)
        self._link = link
        self._state: dict[str, Any] = dict(snapshot.get("state") or {})
        self._saved_state = json.dumps(self._state)
        self.log = ProcessLog(link)

    def __getattr__(self, name: str) -> Any:
        snapshot = self.__dict__.get("_snapshot", {})
        if name not in snapshot:
            raise AttributeError(f"the context of a process has no {name!r}; it has {', '.join(snapshot)}")
        return snapshot[name]

    @property
    def created_at(self) -> datetime | None:
        """When the job was accepted."""
        return self._time("created_at")

    @property
    def scheduled_for(self) -> datetime | None:
        """When the job was to start, if that was asked for."""
        return self._time("scheduled_for")

    @property
    def deadline(self) -> datetime | None:
        """When the time limit ends this attempt, if there is one."""
        return self._time("deadline")

    @property
    def cancelled(self) -> bool:
        """True once the attempt is to stop."""
        return self._link.cancelled

    @property
    def cancel_reason(self) -> str | None:
        return self._link.cancel_reason

    def raise_if_cancelled(self) -> None:
        """Raise Cancel if the attempt is to stop."""
        self._link.raise_if_cancelled()

    @property
    def state(self) -> dict[str, Any]:
        """A small dict that is saved with the progress, and at the end, and given to the next attempt. Must be JSON."""
        return self._state

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        self._state = dict(value)

    def save_state(self) -> None:
        """Tell the worker of the state, if it has changed."""
        text = json.dumps(self._state)
        if text != self._saved_state:
            self._saved_state = text
            self._link.notify("state", self._state)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Say how far the job is; saves the state as well. May be awaited and need not be."""
        self._link.notify("progress", {"done": done, "total": total, "message": message})
        self.save_state()
        return _Yield()

    def track(self, items: Iterable[ItemT], *, total: int | None = None) -> Iterator[ItemT]:
        """The items one by one, with progress told after each, and Cancel raised between two when the attempt is to stop."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        for done, item in enumerate(items, 1):
            self.raise_if_cancelled()
            yield item
            if total is not None:
                self.progress(done, total)

    async def once(
        self, key: str, function: Callable[..., Any], *arguments: Any, look_up: Callable[[], Any] | None = None
    ) -> Any:
        """Do something that must not be done twice. The worker keeps the record of it: what was meant before, and the result after."""
        begun = await self._link.request_async("once.begin", {"key": key})
        if begun["status"] == "unknown" and look_up is not None:
            begun = await self._link.request_async("once.resolve", {"key": key, "result": await _called(look_up)})
        if begun["status"] == "done":
            return begun["result"]
        if begun["status"] != "claimed":
            raise AttemptError(
                f"it is not known whether {key!r} was done before; give ctx.once a look_up that finds out"
            )
        try:
            result = await _called(function, *arguments)
        except Exception:
            # It says itself that it did not happen. Being cut off says nothing, and leaves the intent.
            await self._link.request_async("once.forget", {"key": key})
            raise
        await self._link.request_async("once.finish", {"key": key, "result": result})
        return result

    def request(self, name: str, body: Any) -> Any:
        """Ask the worker's side of the context, and wait for its answer."""
        return self._link.request(name, body)

    def _time(self, name: str) -> datetime | None:
        text = self._snapshot.get(name)
        return None if text is None else datetime.fromisoformat(text)


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    value = function(*arguments)
    return await value if inspect.isawaitable(value) else value
