"""A misspelt name, a wrong payload and a wrong result are errors of the type checker, at the lines that say so
(SEED-003, SEED-052).
"""

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

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.py"))
_SOURCE = Path(__file__).parents[2] / "src"
_EXPECTED = re.compile(r"# error: (\w+)$")

pytestmark = pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is missing: `make check` installs it")


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[tuple[int, str]]]:
    """The errors of pyright's strict mode in each sample, line and rule; one run looks at all, since it is what takes
    long.
    """
    folder = tmp_path_factory.mktemp("samples")
    settings = {
        "include": [sample.name for sample in SAMPLES],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
        "extraPaths": [str(_SOURCE)],
        "reportMissingTypeStubs": False,
    }
    for sample in SAMPLES:
        shutil.copy(sample, folder)  # a project's files lie below its settings
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "-p", folder, "--pythonpath", sys.executable, "--outputjson"],
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(SAMPLES), done.stdout
    found: dict[str, set[tuple[int, str]]] = {sample.name: set() for sample in SAMPLES}
    for problem in report["generalDiagnostics"]:
        found[Path(problem["file"]).name].add((problem["range"]["start"]["line"] + 1, problem["rule"]))
    return found


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_errors_are_where_they_are_expected_and_nowhere_else(
    sample: Path, errors: dict[str, set[tuple[int, str]]]
) -> None:
    lines = sample.read_text().splitlines()
    expected = {(number, found[1]) for number, line in enumerate(lines, 1) if (found := _EXPECTED.search(line))}
    assert len(expected) > 10
    assert {line for line, _ in errors[sample.name]} == {line for line, _ in expected}
    assert expected <= errors[sample.name]  # strict mode has more to say of some of them
