"""The queue engine: BullMQ's layout on Redis or Valkey, in batches. It knows nothing of SQL."""

from taurine.queue.job import Job
from taurine.queue.queue import Queue
from taurine.queue.worker import Worker

__all__ = ["Job", "Queue", "Worker"]
