from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from embedded.processes import SOURCE


def test_the_program_accepts_refuses_and_reads_back(started: Callable[..., str]) -> None:
    done = "{'status': 'completed', 'result': 'order 7: a mail to ada@example.com is on its way'}"

    first, again = (started("web_django").splitlines() for _ in range(2))

    assert [line.strip() for line in first] == ["202 {'job': 'confirm:7'}", "409", "422", done, "404"]
    assert [line.strip() for line in again] == ["409", "409", "422", done, "404"]


ROLLED_BACK = """
import sys
sys.path.insert(0, sys.argv[1])
import web_django as example
from django.db import connection, transaction
from django.test import Client

example.set_up()
with connection.cursor() as cursor:
    cursor.execute("insert into shop_order values (7, 'eve@example.com')")
answer = Client().post("/orders", {"number": 7, "email": "ada@example.com"}, content_type="application/json")
print(answer.status_code, example.app.get_sync("confirm:7"))
example.app.close_sync()
connection.close()
"""


def test_there_is_no_job_for_an_order_that_was_rolled_back(redis_socket_url: str, prefix: str, tmp_path: Path) -> None:
    """In a process of its own: Django is set up once, for a whole process."""
    settings = {"TAURINE_REDIS_URL": redis_socket_url, "TAURINE_PREFIX": prefix, "TAURINE_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", ROLLED_BACK, str(SOURCE.parent / "examples")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SOURCE), **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.stdout == "409 None\n", ended.stderr
