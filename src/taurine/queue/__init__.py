"""The queue engine: BullMQ's layout on Redis or Valkey, in batches. It knows nothing of SQL.

Events of `QueueEvents` are classes of `taurine.queue.events`.
"""

from taurine.queue.connection import Connection
from taurine.queue.cron import next_fire
from taurine.queue.events import QueueEvents
from taurine.queue.job import Job
from taurine.queue.queue import Queue
from taurine.queue.reading import JobLogs, Metrics, QueueMeta, WorkerInfo
from taurine.queue.scheduler import Schedule, Scheduler, ScheduleStrategy
from taurine.queue.states import JobState
from taurine.queue.stored_options import JobOptions
from taurine.queue.worker import Worker

__all__ = [
    "Connection",
    "Job",
    "JobLogs",
    "JobOptions",
    "JobState",
    "Metrics",
    "Queue",
    "QueueEvents",
    "QueueMeta",
    "Schedule",
    "ScheduleStrategy",
    "Scheduler",
    "Worker",
    "WorkerInfo",
    "next_fire",
]
