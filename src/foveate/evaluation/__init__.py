"""Scores with intervals, grounding measured against true regions, and reports a person can read."""

from foveate.evaluation.comparison import write_comparison
from foveate.evaluation.folder import EvaluationFolder, EvaluationFolderError
from foveate.evaluation.joint import JointTable
from foveate.evaluation.probes import Probed, Prober, probe
from foveate.evaluation.probing import ModelLook, probe_model
from foveate.evaluation.report import Case, write_report
from foveate.evaluation.runner import Evaluation, EvaluationError, evaluate
from foveate.evaluation.scores import write_scores
from foveate.evaluation.scoring import FIGURES, Attempt, Scored, Summary
from foveate.protocols.answers import extract_choice

__all__ = [
    "FIGURES",
    "Attempt",
    "Case",
    "Evaluation",
    "EvaluationError",
    "EvaluationFolder",
    "EvaluationFolderError",
    "JointTable",
    "ModelLook",
    "Probed",
    "Prober",
    "Scored",
    "Summary",
    "evaluate",
    "extract_choice",
    "probe",
    "probe_model",
    "write_comparison",
    "write_report",
    "write_scores",
]
