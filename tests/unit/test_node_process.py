"""Node beside a test: lines go both ways, and a failure shows what the script said."""

from __future__ import annotations

import pytest

from support.node import NodeProcess


async def test_the_script_finds_bullmq_6_on_a_node_that_runs_it() -> None:
    async with NodeProcess("echo.mjs", "one", "two") as node:
        hello = await node.receive()

        assert int(hello["node"].split(".")[0]) >= 20
        assert hello["bullmq"] == "6.7.0"
        assert (hello["queue"], hello["argv"]) == ("function", ["one", "two"])


async def test_lines_go_both_ways_whatever_their_size() -> None:
    messages = [{"text": "ü\n🐂"}, {"text": "x" * 1_000_000}, [1, 2.5, None]]
    async with NodeProcess("echo.mjs") as node:
        await node.receive()
        for message in messages:
            node.send(message)

        assert [await node.receive() for _ in messages] == messages
        assert await node.close() == 0


async def test_a_script_that_throws_is_shown_with_its_words() -> None:
    with pytest.raises(AssertionError, match="ended, with exit code 1") as failure:
        async with NodeProcess("echo.mjs") as node:
            await node.receive()
            node.send({"fail": "no such queue"})
            await node.receive()

    assert "Error: no such queue" in failure.value.__notes__[0]


async def test_a_script_that_says_nothing_is_given_up() -> None:
    with pytest.raises(AssertionError, match=r"sent nothing for 0\.05 s"):
        async with NodeProcess("echo.mjs") as node:
            await node.receive()
            node.send({"ignore": True})
            await node.receive(timeout=0.05)


async def test_it_can_be_killed() -> None:
    async with NodeProcess("echo.mjs") as node:
        await node.receive()
        node.kill()

        assert await node.close() == -9
