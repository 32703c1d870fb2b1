"""Evaluations as a command line starts them: who answers what, and where it is written down.

Imports no torch: a model that answers at an endpoint needs none.
"""

from foveate.evaluations.asking import Counting, Models, NamedModel, Progressing, Speaker, writing_down
from foveate.evaluations.evaluating import Evaluated, Judge, evaluate_model
from foveate.evaluations.probing import probe_at_moments

__all__ = [
    "Counting",
    "Evaluated",
    "Judge",
    "Models",
    "NamedModel",
    "Progressing",
    "Speaker",
    "evaluate_model",
    "probe_at_moments",
    "writing_down",
]
