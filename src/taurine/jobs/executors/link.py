"""The handler's side of the line between a worker and one of its processes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from taurine.errors import Cancel, TaurineError
from taurine.jobs.executors.frames import Message, encode_frame, receive_frame

__all__ = ["Link", "LinkLogHandler"]

_EXIT_TIME = 5.0
"""Seconds that a process without a worker has to end in good order; its atexit functions may hang."""

_LONGEST_TEXT = 1024 * 1024
"""Characters of a log record, the traceback with it; the rest is cut off."""


class Link:
    """What code in a handler's process can say to the worker and hear from it; safe to use from any thread.

    `cancelled` is True once the running attempt is to stop, and `cancel_reason` says why.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._owner = os.getpid()
        self._sending = threading.Lock()
        self._orders: SimpleQueue[Message | None] = SimpleQueue()
        self._requests: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._call: int | None = None
        self._cancelling = threading.Lock()
        self._on_cancel: Callable[[], object] | None = None
        self.cancel_reason: str | None = None

    @property
    def cancelled(self) -> bool:
        return self.cancel_reason is not None

    def raise_if_cancelled(self) -> None:
        """Raise Cancel if the running attempt is to stop."""
        if self.cancel_reason is not None:
            raise Cancel(self.cancel_reason)

    def notify(self, name: str, body: Any) -> None:
        """Tell the worker something, as JSON, without waiting for it; it arrives in order, before the attempt's end."""
        self.send({"type": "notify", "call": self._call, "name": name, "body": body})

    def request(self, name: str, body: Any) -> Any:
        """Ask the worker something, wait, and return its answer; for code without an event loop.

        Raises what the worker raised.
        """
        return self._ask(name, body).result()

    async def request_async(self, name: str, body: Any) -> Any:
        """The same for async handlers."""
        return await asyncio.wrap_future(self._ask(name, body))

    @property
    def is_ours(self) -> bool:
        """False in a process that a handler has forked: two that write to one line would garble it."""
        return os.getpid() == self._owner

    def send(self, message: Message) -> None:
        if not self.is_ours:
            raise TaurineError("a process that a handler has forked cannot speak to the worker; let the handler do it")
        frame = encode_frame(message)
        try:
            with self._sending:
                self._channel.sendall(frame)
        except OSError:
            os._exit(1)  # the worker is gone: nobody wants what this process does

    def receive(self) -> Message | None:
        return receive_frame(self._channel)

    def next_order(self) -> Message | None:
        """Wait for an attempt to run; None: end."""
        return self._orders.get()

    def begin(self, call: int) -> None:
        with self._cancelling:
            self._call, self._on_cancel = call, None
            self.cancel_reason = None
        self.send({"type": "began", "call": call})

    def end(self) -> None:
        with self._cancelling:
            self._call, self._on_cancel = None, None

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call `callback` from another thread when the running attempt is cancelled; at once if it is already."""
        with self._cancelling:
            self._on_cancel = callback
            if self.cancelled:
                callback()

    def listen(self) -> None:
        """Take in what the worker says until it is gone; runs in a thread of its own."""
        while (message := self.receive()) is not None:
            self._take_in(message)
        self._orders.put(None)
        if self._call is None:
            time.sleep(_EXIT_TIME)
        os._exit(1)

    def _take_in(self, message: Message) -> None:
        match message["type"]:
            case "run":
                self._orders.put(message)
            case "exit":
                self._orders.put(None)
            case "cancel":
                self._cancel(message)
            case "reply":
                self._resolve(message)
            case unknown:
                raise TaurineError(f"the worker said {unknown!r}, which this process does not know")

    def _cancel(self, message: Message) -> None:
        with self._cancelling:
            if message["call"] != self._call or self.cancelled:
                return
            self.cancel_reason = message["reason"]
            if self._on_cancel is not None:
                self._on_cancel()

    def _ask(self, name: str, body: Any) -> Future[Any]:
        number, answer = next(self._numbers), Future[Any]()
        self._requests[number] = answer
        self.send({"type": "request", "call": self._call, "request": number, "name": name, "body": body})
        return answer

    def _resolve(self, message: Message) -> None:
        answer = self._requests.pop(message["request"])
        if not answer.set_running_or_notify_cancel():
            return
        if "error" not in message:
            answer.set_result(message["value"])
            return
        from taurine.jobs.executors.failures import restore_failure

        answer.set_exception(restore_failure(message["error"]))


class LinkLogHandler(logging.Handler):
    """Sends log records to the worker, which logs them with the job's context; one that cannot be sent disturbs nobody."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(record)
        except Exception:  # noqa: BLE001 - as of every handler of logging: a bad log call must not fail its caller
            self.handleError(record)

    def _send(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        if not self._link.is_ours:
            sys.stderr.write(f"{record.name}: {text}\n")
            return
        self._link.send({"type": "log", "level": record.levelno, "logger": record.name, "text": text[:_LONGEST_TEXT]})
