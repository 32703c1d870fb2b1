"""From episodes to updated weights."""

from foveate.training.checkpoints import CheckpointError
from foveate.training.loop import Observer, StepReport, Trainer, TrainingError
from foveate.training.selfcheck import PackingMismatch
from foveate.training.split import SplitError

__all__ = ["CheckpointError", "Observer", "PackingMismatch", "SplitError", "StepReport", "Trainer", "TrainingError"]
