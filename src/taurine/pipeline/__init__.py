"""Staged pipelines: typed stages one after the other, run right here or as a job, and observers that hear of them."""

from taurine.pipeline.observers import StageEvent, StageFailure, StageObserver, StageProgress
from taurine.pipeline.pipeline import Pipeline
from taurine.pipeline.stages import Stage

__all__ = ["Pipeline", "Stage", "StageEvent", "StageFailure", "StageObserver", "StageProgress"]
