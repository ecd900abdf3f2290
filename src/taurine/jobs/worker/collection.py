"""The garbage collector of a process that is a worker's own.

Each job makes some dozens of objects that the collector looks at, and all but a few are gone before it does. With
Python's defaults it looks so often, and among everything that was ever imported, that it takes a tenth of a busy
worker's time.
"""

from __future__ import annotations

import gc

__all__ = ["collect_rarely"]

_THRESHOLDS = (10_000, 20, 50)
"""Python's defaults are 700 (2,000 in later versions), 10 and 10. The first holds what some hundreds of running jobs
are made of.
"""


def collect_rarely() -> None:
    """Set what is there apart, for good, and look for garbage among the rest less often.

    Memory that only the collector frees is freed later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
