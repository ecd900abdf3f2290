"""Reaching the server: links, the small pool of them, and what a failure is called.

A `Link` is one socket with one owner at a time: commands go out in order and replies come back in order. If anything
goes wrong between the two (an error, a time-out, a cancellation), the link is cut, since a late reply would otherwise
reach the next caller.
redis-py makes the socket: TLS, unix sockets, credentials and URL forms are its own. Its client, pool and packer are not
used, because a turn of the worker is one command, and their cost would be a good part of it.

Nothing connects before the first command. A failure is StoreUnavailable (no answer in bounded time; the write may or
may not have happened) or StoreRefused (the server said no).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import select
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taurine.errors import InvalidOption, StoreError, StoreRefused, StoreUnavailable
from taurine.options import Seconds, require_count, to_seconds
from taurine.queue.scripts import Argument, Script
from taurine.urls import masked_url

__all__ = ["Connection", "Link", "Target"]

log = logging.getLogger("taurine.queue")

Target: TypeAlias = "str | Redis | Connection"
"""A URL (`redis://`, `rediss://`, `unix://`), a ready redis-py client (its settings are used, its sockets are not), or
a Connection.
"""

_BLOCK_MARGIN = 2.0
"""Seconds beyond the server's own time-out after which a blocking read is taken for dead."""

_JUST_USED = 0.005
"""Seconds in which no server is restarted."""

# Answers of a server that is there but cannot serve now; the same command works later.
_PASSING = re.compile(r"^(LOADING|READONLY|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|NOREPLICAS|UNBLOCKED)\b")
# hiredis declares a tuple of one; it takes any length.
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]


def _translate(error: BaseException, where: str) -> StoreError:
    # Over a unix socket redis-py wraps it in an error that means an outage.
    if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
        return StoreRefused(f"the server at {where} refused the credentials: {error}; check user and password")
    if isinstance(error, BusyLoadingError | ReadOnlyError | RedisConnectionError | RedisTimeoutError | OSError):
        return StoreUnavailable(
            f"no answer from the server at {where}: {str(error).rstrip('.') or type(error).__name__}; it may be repeated"
        )
    if _PASSING.match(str(error)):
        return StoreUnavailable(f"the server at {where} cannot serve now: {error}; it may be repeated")
    return StoreRefused(f"the server at {where} refused: {error}")


class Link:
    """One socket to the server, opened by its first command."""

    def __init__(
        self, make: Callable[[], AbstractConnection], *, where: str, connect_timeout: float, timeout: float
    ) -> None:
        self._make = make
        self._where = where
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._socket: AbstractConnection | None = None
        self._look: select.poll | None = None
        """Asks the machine what has come on the socket."""
        self._unanswered = 0

    @property
    def connected(self) -> bool:
        return self._socket is not None and self._socket.is_connected

    @property
    def idle(self) -> bool:
        """True when the link is open and no reply is due on it."""
        return self.connected and self._unanswered == 0

    async def connect(self) -> None:
        """Open the socket if it is not open. Raises StoreUnavailable or StoreRefused."""
        if self._socket is not None:
            return
        socket = self._make()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await socket.connect()
        except (RedisError, OSError) as error:
            await self._cut(socket)
            raise _translate(error, self._where) from None
        except BaseException:
            await self._cut(socket)
            raise
        self._socket = socket
        if sys.platform != "win32":  # which has no poll: there, only what the event loop has seen counts
            self._look = select.poll()
            self._look.register(self._writer().get_extra_info("socket"), select.POLLIN)

    @property
    def hung_up(self) -> bool:
        """True when the server has closed the idle link, or something unread has come on it, as far as the machine
        knows.

        The event loop may not have looked since: it was kept busy, or this is the first thing that it does after a
        pause.
        """
        if self._socket is None or self._look is None:
            return False
        return self._writer().is_closing() or bool(self._look.poll(0))

    async def is_stale(self) -> bool:
        """True when the server has closed the idle link, or left something unread on it, as far as the event loop
        knows.
        """
        try:
            return self._socket is not None and await self._socket.can_read()
        except (RedisError, OSError):
            return True
        except BaseException:
            await self.close()
            raise

    def post(self, command: Sequence[Argument]) -> None:
        """Write one command to an open link, without waiting for the server to take it; its reply is due from
        `receive`, in order.

        For callers that bound what they post. A link that is broken says so at `receive`. Raises UnicodeEncodeError for
        text that cannot be sent; nothing was written then.
        """
        self._writer().write(_pack(tuple(command)))
        self._unanswered += 1

    async def send(self, command: Sequence[Argument]) -> None:
        """Write one command, opening the link if need be; its reply is due from `receive`, in order."""
        await self.connect()
        self.post(command)
        writer = self._writer()
        if not writer.transport.get_write_buffer_size():
            return
        try:
            async with asyncio.timeout(self._timeout):
                await writer.drain()
        except (RedisError, OSError) as error:
            await self.close()
            raise _translate(error, self._where) from None
        except BaseException:
            await self.close()
            raise

    def _writer(self) -> asyncio.StreamWriter:
        # redis-py's own way to write is a coroutine: what it would add is a time-out and a copy, and a caller that is cancelled in it would
        # cut the link for all who share it.
        writer = self._socket._writer if self._socket is not None else None  # pyright: ignore[reportPrivateUsage] - see above
        if writer is None:
            raise StoreUnavailable(f"the link to {self._where} was cut; it may be repeated")
        return writer

    async def receive(self, timeout: float | None = None) -> Any:
        """The reply to the oldest unanswered command; `timeout` in seconds, default the link's own."""
        if self._socket is None:
            raise StoreUnavailable(f"the link to {self._where} was cut before the reply came; it may be repeated")
        self._unanswered -= 1
        try:
            async with asyncio.timeout(self._timeout if timeout is None else timeout):
                return cast("Any", await self._socket.read_response(timeout=math.inf))  # pyright: ignore[reportUnknownMemberType] - untyped replies
        except NoScriptError:
            raise
        except ResponseError as error:
            # A complete reply that says no leaves the link in step; anything else does not.
            raise _translate(error, self._where) from None
        except (RedisError, OSError) as error:
            await self.close()
            raise _translate(error, self._where) from None
        except BaseException:
            await self.close()
            raise

    async def call(self, *command: Argument, timeout: float | None = None) -> Any:
        """Send one command and return its reply."""
        await self.send(command)
        return await self.receive(timeout)

    async def blocking_call(self, *command: Argument, block: float) -> Any:
        """Send a command on which the server waits for up to `block` seconds, as its own arguments say, and return its
        reply. A connection that stays mute for some seconds longer is taken for dead.
        """
        return await self.call(*command, timeout=block + _BLOCK_MARGIN)

    async def run(self, script: Script, key: str, *arguments: Argument) -> Any:
        """Run a script, sending its text if the server does not know it."""
        try:
            return await self.call("EVALSHA", script.digest, 1, key, *arguments)
        except NoScriptError:
            return await self.call("EVAL", script.text, 1, key, *arguments)

    async def close(self) -> None:
        """Cut the link; the next command opens a new one."""
        socket, self._socket, self._unanswered = self._socket, None, 0
        if socket is not None:
            await self._cut(socket)

    @staticmethod
    async def _cut(socket: AbstractConnection) -> None:
        with contextlib.suppress(RedisError, OSError):
            await socket.disconnect(nowait=True)


class Connection:
    """Access to one server, for any number of queues and workers of one event loop.

    target: a URL, or a ready `redis.asyncio.Redis`, whose address, credentials and TLS settings are used on sockets of
    our own.
    connect_timeout: seconds to open a socket. Default: 1.
    timeout: seconds for a command's answer, and for a free link. Default: 5.
    max_links: links that single calls share; further calls wait their turn. Workers and readers have links of their
    own. Default: 16.
    idle_timeout: seconds after which such a link is closed when no call needed it; firewalls drop links that are idle
    for long without a word. Default: 300.

    A shared link that the server has closed meanwhile, by a restart for example, is replaced before a call is sent on
    it.
    Raises InvalidOption.
    """

    def __init__(
        self,
        target: str | Redis,
        *,
        connect_timeout: float = 1.0,
        timeout: float = 5.0,
        max_links: int = 16,
        idle_timeout: Seconds = 300.0,
    ) -> None:
        pool = _pool_of(target)
        self._make_connection = pool.connection_class
        self._settings: dict[str, Any] = {
            **pool.connection_kwargs,
            "decode_responses": False,
            "protocol": 2,
            "socket_timeout": None,
            "socket_connect_timeout": connect_timeout,
            "retry": None,
            "retry_on_error": [],
            "health_check_interval": 0,
        }
        self.where = _where(target)
        self.identity: object = target if isinstance(target, str) else target.connection_pool
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._max_links = require_count(max_links, "max_links", minimum=1)
        self._idle_timeout = to_seconds(idle_timeout, "idle_timeout", minimum=0.001)
        self._idle: list[_Idle] = []
        """The one that has been longest first."""
        self._look_at_idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @classmethod
    def to(cls, target: Target) -> Connection:
        """`target` itself if it is a Connection, else a new one to it."""
        return target if isinstance(target, Connection) else cls(target)

    def link(self, *, client_name: str | None = None) -> Link:
        """A new link of the caller's own; `client_name` is what CLIENT LIST shows of it."""
        settings: dict[str, Any] = dict(self._settings)
        if client_name is not None:
            settings["client_name"] = client_name
        return Link(
            lambda: self._make_connection(**settings),
            where=self.where,
            connect_timeout=self._connect_timeout,
            timeout=self._timeout,
        )

    async def call(self, *command: Argument) -> Any:
        """Send one command over an idle link and return its reply."""
        async with self.borrow() as link:
            return await link.call(*command)

    async def run(self, script: Script, key: str, *arguments: Argument) -> Any:
        """Run a script over an idle link and return its reply."""
        async with self.borrow() as link:
            return await link.run(script, key, *arguments)

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send several commands in one go and return their replies in order; the first refusal is raised, after all
        were read.
        """
        async with self.borrow() as link:
            for command in commands:
                await link.send(command)
            replies: list[Any] = []
            refusal: StoreError | None = None
            for _ in commands:
                try:
                    replies.append(await link.receive())
                except StoreError as error:
                    if not link.connected:
                        raise
                    refusal = refusal or error
            if refusal is not None:
                raise refusal
            return replies

    @contextlib.asynccontextmanager
    async def borrow(self) -> AsyncGenerator[Link]:
        """An idle link for the length of a `with` block, or a new one; the caller leaves no reply unread on it."""
        link = await self.take()
        try:
            yield link
        finally:
            await self.give_back(link)

    def take_idle(self) -> Link | None:
        """An open link that nobody uses, or None. The caller gives it back."""
        if not self._idle or self._taken >= self._max_links or self._idle[-1].is_dead():
            return None
        self._taken += 1
        return self._idle.pop().link

    async def take(self) -> Link:
        """An open link that nobody uses, or a new one. The caller gives it back.

        Raises StoreUnavailable when all are in use for longer than the time-out.
        """
        if self._taken >= self._max_links:
            await self._wait_for_turn()
        else:
            self._taken += 1
        try:
            while self._idle:
                entry = self._idle.pop()
                if not entry.is_dead() and not await entry.link.is_stale():
                    return entry.link
                await entry.link.close()
        except BaseException:
            self._pass_turn()
            raise
        return self.link()

    async def _wait_for_turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_turn()  # it came together with the end of the wait
            if not isinstance(error, TimeoutError):
                raise
            raise StoreUnavailable(
                f"all {self._max_links} links to {self.where} were in use for {self._timeout:g} s; it may be repeated"
            ) from None

    def _pass_turn(self) -> None:
        """Let the next caller in line have a link, if there is one."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    async def give_back(self, link: Link) -> None:
        """Take back a link; one that is cut, or that a reply is due on, is closed."""
        self._pass_turn()
        if not link.idle or self._closed:
            await link.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.append(_Idle(link, loop.time()))
        if self._look_at_idle is None:
            self._look_at_idle = loop.call_later(self._idle_timeout, self._drop_idle)

    def _drop_idle(self) -> None:
        """Close the links that nobody has needed for too long, and look again when the next may be one."""
        timer, self._look_at_idle = self._look_at_idle, None
        if timer is None:
            return
        loop = asyncio.get_running_loop()
        # Not by the clock, since a timer may be early by the clock's resolution.
        while self._idle and self._idle[0].since + self._idle_timeout <= timer.when():
            closing = loop.create_task(self._idle.pop(0).link.close(), name="taurine close idle link")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if self._idle:
            self._look_at_idle = loop.call_at(self._idle[0].since + self._idle_timeout, self._drop_idle)

    async def close(self) -> None:
        """Close the idle links. Safe to call twice; a later command opens a link of its own and closes it."""
        self._closed = True
        if self._look_at_idle is not None:
            self._look_at_idle.cancel()
            self._look_at_idle = None
        idle, self._idle = self._idle, []
        for entry in idle:
            await entry.link.close()
        await asyncio.gather(*self._closing)


class _Idle(NamedTuple):
    """A link that waits for its next use."""

    link: Link
    since: float
    """By the event loop's clock."""

    def is_dead(self) -> bool:
        """True when the server has hung up meanwhile.

        A link that was in use a moment ago is not looked at: that would slow down every call.
        """
        return asyncio.get_running_loop().time() - self.since > _JUST_USED and self.link.hung_up


def _pool_of(target: object) -> ConnectionPool:
    if isinstance(target, str):
        try:
            return ConnectionPool.from_url(target)  # pyright: ignore[reportUnknownMemberType] - untyped **kwargs
        except ValueError:
            pass
        # Outside of the handler: the other error holds what was taken for the port, which may be a part of the password.
        raise InvalidOption(
            f"expected a URL such as redis://localhost:6379, a password's special characters percent-encoded; got {masked_url(target)!r}"
        )
    pool: object = getattr(target, "connection_pool", None)
    if isinstance(pool, ConnectionPool):
        return pool
    raise InvalidOption(f"expected a URL or a redis.asyncio.Redis client, got {type(target).__name__}")


def _where(target: str | Redis) -> str:
    """The server's address for messages, without credentials."""
    if isinstance(target, str):
        parts = urlsplit(target)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    settings = target.connection_pool.connection_kwargs
    return str(settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}")
