"""What every fault test has: a history to judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.history import History


@pytest.fixture
def history(tmp_path: Path) -> History:
    """The record of this test, in a directory of its own; worker processes write into it too."""
    return History(tmp_path)
