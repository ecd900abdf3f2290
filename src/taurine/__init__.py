"""Taurine: background jobs for Python on BullMQ's wire."""

from taurine.errors import Cancel, Permanent, RateLimited, RetryAfter, Snooze, TaurineError
from taurine.options import Dedup, Keep, Parent, RateLimit, Telemetry
from taurine.retry import Custom, Exponential, Fixed

__version__ = "0.1.0"

__all__ = [
    "Cancel",
    "Custom",
    "Dedup",
    "Exponential",
    "Fixed",
    "Keep",
    "Parent",
    "Permanent",
    "RateLimit",
    "RateLimited",
    "RetryAfter",
    "Snooze",
    "TaurineError",
    "Telemetry",
    "__version__",
]
