"""The link over which a worker takes its turns, and what happens when it breaks.

A turn whose reply never came may have run, may run later, or may never run. Before anything is sent again the old
connection is killed at the server, so that a copy still on its way cannot run afterwards. Then the same outcomes go
again, with the token of the lost turn: outcomes that were settled are refused by their leases, and the jobs that the
lost turn claimed come back under that token.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from dataclasses import replace

from redis.exceptions import NoScriptError

from taurine.errors import StoreError, StoreRefused
from taurine.queue.connection import Connection, Link
from taurine.queue.keys import QueueKeys
from taurine.queue.scripts import load
from taurine.queue.turn import Turn, TurnReply

__all__ = ["TurnLink"]

_CLIENT_AGE = re.compile(r"\bage=(\d+)\b")


class TurnLink:
    """One worker's own link, on which turns are answered in the order in which they were sent.

    Its name is how BullMQ's `getWorkers` and dashboards see the worker.
    """

    def __init__(self, connection: Connection, keys: QueueKeys, worker_name: str) -> None:
        self._connection = connection
        self._keys = keys
        self._client_name = keys.client_name(worker_name)
        self._link: Link = connection.link(client_name=self._client_name)
        self._client_id: int | None = None
        self._opened_at = 0.0
        self._sent: deque[Turn] = deque()
        self._lost_tokens: tuple[str, ...] = ()
        self._script = load("turn")

    async def send(self, turn: Turn) -> None:
        """Send a turn, with the tokens of lost turns if there are any.

        Raises StoreUnavailable, after which the turn may have happened. A caller that is cancelled has a lost turn too.
        """
        if not self._link.connected:
            await self._reconnect()
        if self._lost_tokens:
            turn = replace(turn, lost_tokens=self._lost_tokens)
        self._sent.append(turn)
        try:
            await self._link.send(("EVALSHA", self._script.digest, 1, self._keys.meta, *turn.arguments()))
        except BaseException:
            await self._lose()
            raise

    async def receive(self) -> tuple[Turn, TurnReply]:
        """The oldest turn under way, as it was sent, and its reply.

        Raises StoreUnavailable or StoreRefused, after which every turn under way may have happened, if only in part.
        """
        try:
            while True:
                try:
                    reply = await self._link.receive()
                    break
                except NoScriptError:
                    # Nothing of the turn ran. It goes again behind the one that is on its way, which meets the same answer.
                    self._sent.rotate(-1)
                    await self._link.send(("EVAL", self._script.text, 1, self._keys.meta, *self._sent[-1].arguments()))
        except BaseException:
            await self._lose()
            raise
        turn = self._sent.popleft()
        self._lost_tokens = tuple(token for token in self._lost_tokens if token not in turn.lost_tokens)
        return turn, TurnReply.read(reply)

    @property
    def has_lost(self) -> bool:
        """True after a turn without a reply, until a later turn was answered."""
        return bool(self._lost_tokens)

    async def _lose(self) -> None:
        self._lost_tokens = (*self._lost_tokens, *(turn.token for turn in self._sent))
        self._sent.clear()
        # A refusal is a whole reply, after which the link is in step: those of the turns behind it would still come.
        await self._link.close()

    async def _reconnect(self) -> None:
        if self._client_id is not None:
            await self._kill(self._client_id)
            self._client_id = None
        await self._link.connect()
        # A user without the right to CLIENT ID works too; only the kill is left out then.
        with contextlib.suppress(StoreRefused):
            self._client_id = await self._link.call("CLIENT", "ID")
        self._opened_at = asyncio.get_running_loop().time()

    async def _kill(self, client_id: int) -> None:
        """End the old connection at the server, if it is still there and really ours: a restarted server numbers its
        clients anew.
        """
        age = int(asyncio.get_running_loop().time() - self._opened_at)
        try:
            line: bytes = await self._connection.call("CLIENT", "LIST", "ID", client_id)
            text = line.decode("utf-8", "replace")
            found = _CLIENT_AGE.search(text)
            if found and int(found[1]) >= age - 1 and f"name={self._client_name} " in text:
                await self._connection.call("CLIENT", "KILL", "ID", client_id)
        except StoreRefused:
            return

    async def close(self) -> None:
        with contextlib.suppress(StoreError):
            await self._link.close()
