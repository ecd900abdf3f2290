"""A module whose import fails where TAURINE_TEST_IMPORTS is not set."""

import os

if "TAURINE_TEST_IMPORTS" not in os.environ:
    raise RuntimeError("this library is not installed here")


def handler(_: object) -> None:
    pass
