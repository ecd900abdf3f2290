"""The domain: placing an order. It knows what it needs, a port, and nothing of queues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Confirmation", "Confirmations", "PlaceOrder"]


@dataclass(frozen=True)
class Confirmation:
    """What is to be confirmed, and to whom."""

    order_id: str
    address: str


class Confirmations(Protocol):
    """The port: whoever sees to it that a confirmation is sent, some time."""

    async def enqueue(self, payload: Confirmation, /) -> object: ...


class PlaceOrder:
    """The use case."""

    def __init__(self, confirmations: Confirmations) -> None:
        self._confirmations = confirmations

    async def __call__(self, order_id: str, address: str) -> None:
        if "@" not in address:
            raise ValueError(f"expected an address, got {address!r}")
        await self._confirmations.enqueue(Confirmation(order_id, address))
