"""Scores with intervals, grounding measured against true regions, and reports a person can read."""

from foveate.evaluation.curves import grounding_curves
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.grounding import Grounding, best_iou, grounding_of, iog_hit, valid_boxes
from foveate.evaluation.joint import JointTable, overall
from foveate.evaluation.official import Figure, Official, official
from foveate.evaluation.pictures import annotated, data_url
from foveate.evaluation.probes import (
    CROP_ALONE,
    REPLACEMENTS,
    UNCHANGED,
    ReplacedCrop,
    Replacement,
    probe,
    probe_figures,
)
from foveate.evaluation.report import Case, first_cases, write_report
from foveate.evaluation.runner import Evaluation, EvaluationError, evaluate
from foveate.evaluation.scores import write_scores
from foveate.evaluation.scoring import FIGURES, Attempt, Scored, Summary
from foveate.evaluation.statistics import bootstrap_interval
from foveate.protocols.answers import extract_choice

__all__ = [
    "CROP_ALONE",
    "FIGURES",
    "REPLACEMENTS",
    "UNCHANGED",
    "Attempt",
    "Case",
    "Evaluation",
    "EvaluationError",
    "EvaluationFolder",
    "Figure",
    "Grounding",
    "JointTable",
    "Official",
    "ReplacedCrop",
    "Replacement",
    "Scored",
    "Summary",
    "annotated",
    "best_iou",
    "bootstrap_interval",
    "data_url",
    "evaluate",
    "extract_choice",
    "first_cases",
    "grounding_curves",
    "grounding_of",
    "iog_hit",
    "official",
    "overall",
    "probe",
    "probe_figures",
    "valid_boxes",
    "write_report",
    "write_scores",
]
