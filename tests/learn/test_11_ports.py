"""Lesson 11: domain code enqueues through a port of its own; a declared job type fits it as it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from learn.shop import orders
from learn.shop.orders import Confirmation, PlaceOrder
from taurine import Taurine


async def test_a_job_type_is_the_adapter(app: Taurine) -> None:
    """SEED-243, SEED-062: declared where the program is put together, and handed to the use case."""
    sent: list[Confirmation] = []

    @app.job("order.confirm", job_id="confirm:{order_id}")
    async def confirm(confirmation: Confirmation) -> None:
        sent.append(confirmation)

    await PlaceOrder(confirm)("o-7", "ada@example.com")
    async with app.worker():
        await app.wait("confirm:o-7", timeout=10)

    assert sent == [Confirmation("o-7", "ada@example.com")]


async def test_the_use_case_is_tested_with_a_fake() -> None:
    """SEED-243, SEED-062."""

    class Recorded(list[Confirmation]):
        async def enqueue(self, payload: Confirmation, /) -> None:
            self.append(payload)

    recorded = Recorded()
    await PlaceOrder(recorded)("o-7", "ada@example.com")

    assert recorded == [Confirmation("o-7", "ada@example.com")]


def test_the_domain_imports_nothing_of_the_queue() -> None:
    """SEED-243: neither itself nor by what it imports."""
    folder = Path(orders.__file__).parent
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import orders; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert "orders" in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"taurine", "redis", "sqlalchemy"}
