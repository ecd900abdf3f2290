from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

WELCOMED = "a welcome is on its way to ada@example.com"


def test_the_program_accepts_refuses_and_reads_back(started: Callable[..., str]) -> None:
    for duplicate in (False, True):
        first, again, *others, done, missing = started("web_fastapi").splitlines()

        assert first == f"202 {{'job': 'welcome:ada', 'duplicate': {duplicate}}}"
        assert again == "202 {'job': 'welcome:ada', 'duplicate': True}"
        assert [line.strip() for line in others] == ["403", "422"]
        assert (done, missing) == (f"{{'status': 'completed', 'result': '{WELCOMED}'}}", "404")


@pytest.mark.parametrize(("name", "kept"), [("ada", 1), ("mallory", 0)])
async def test_a_user_and_the_welcome_are_there_together_or_not_at_all(
    imported: Callable[..., Any], name: str, kept: int
) -> None:
    """The job is enqueued before the view raises, and its transaction takes it back."""
    example = imported("web_fastapi")

    def sign_up() -> tuple[int, str | None, int]:
        with TestClient(example.api) as browser:
            answer = browser.post("/users", json={"name": name, "email": "ada@example.com"})
            status = browser.get(f"/jobs/welcome:{name}", params={"wait": 20})
            with example.engine.connect() as connection:
                users = connection.execute(text("select name from account")).all()
        result = status.json()["result"] if status.is_success else None
        return answer.status_code, result, len(users)

    code, result, users = await asyncio.to_thread(sign_up)

    assert (code, result, users) == ((202, WELCOMED, 1) if kept else (403, None, 0))
