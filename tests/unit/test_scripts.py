"""What holds for every script that runs on the server of queues."""

from __future__ import annotations

import re
from pathlib import Path

import taurine.queue

FOLDER = Path(taurine.queue.__file__).parent / "lua"
MAKES_A_LINE = re.compile(r"error_reply|status_reply|\.error\b|\berror\s*\(|\bassert\s*\(|\b(err|ok)\s*=")


def test_no_script_replies_with_a_line_of_its_own_a51() -> None:
    """A line break in it, which may be a user's, would be the start of another reply; codes and data have none."""
    scripts = {path.name: path.read_text() for path in FOLDER.rglob("*.lua")}
    assert len(scripts) > 30
    assert {name: found for name, script in scripts.items() if (found := MAKES_A_LINE.findall(script))} == {}
