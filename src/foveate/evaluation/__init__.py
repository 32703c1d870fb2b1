"""Scores with intervals, grounding measured against true regions, and reports a person can read."""

from foveate.evaluation.comparison import write_comparison
from foveate.evaluation.curves import grounding_curves
from foveate.evaluation.folder import EvaluationFolder, EvaluationFolderError
from foveate.evaluation.grounding import best_iou, iog_hit
from foveate.evaluation.joint import JointTable
from foveate.evaluation.looking import Looking, looking
from foveate.evaluation.official import official
from foveate.evaluation.probes import Probed, Prober, ProbeSet, probe
from foveate.evaluation.probing import ModelLook, probe_model
from foveate.evaluation.report import Case, write_report
from foveate.evaluation.runner import Evaluation, EvaluationError, evaluate
from foveate.evaluation.scores import score_record, write_scores
from foveate.evaluation.scoring import FIGURES, Attempt, Scored, Summary
from foveate.evaluation.statistics import bootstrap_interval
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
    "Looking",
    "ModelLook",
    "ProbeSet",
    "Probed",
    "Prober",
    "Scored",
    "Summary",
    "best_iou",
    "bootstrap_interval",
    "evaluate",
    "extract_choice",
    "grounding_curves",
    "iog_hit",
    "looking",
    "official",
    "probe",
    "probe_model",
    "score_record",
    "write_comparison",
    "write_report",
    "write_scores",
]
