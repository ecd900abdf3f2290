"""A misspelt name, a wrong payload and a wrong result are errors of the type checker, at the lines that say so (SEED-003, SEED-052)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

_SAMPLES = Path(__file__).parent / "samples"
_SOURCE = Path(__file__).parents[2] / "src"
_EXPECTED = re.compile(r"# error: (\w+)$")

pytestmark = pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is missing: `make check` installs it")


def _found(tmp_path: Path, sample: Path) -> set[tuple[int, str]]:
    """The errors of pyright's strict mode: line and rule."""
    settings = {
        "include": [sample.name],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(_SOURCE)],
        "reportMissingTypeStubs": False,
    }
    shutil.copy(sample, tmp_path)  # a project's files lie below its settings
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "-p", tmp_path, "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout
    return {(problem["range"]["start"]["line"] + 1, problem["rule"]) for problem in report["generalDiagnostics"]}


@pytest.mark.parametrize("sample", sorted(_SAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_errors_are_where_they_are_expected_and_nowhere_else(tmp_path: Path, sample: Path) -> None:
    lines = sample.read_text().splitlines()
    expected = {(number, found[1]) for number, line in enumerate(lines, 1) if (found := _EXPECTED.search(line))}
    assert len(expected) > 10
    found = _found(tmp_path, sample)
    assert {line for line, _ in found} == {line for line, _ in expected}
    assert expected <= found  # strict mode has more to say of some of them
