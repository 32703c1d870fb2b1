"""Scores with intervals, grounding measured against true regions, and reports a person can read."""

from foveate.evaluation.comparison import write_comparison
from foveate.evaluation.grounding import Grounding, best_iou, grounding_of, iog_hit, valid_boxes
from foveate.evaluation.joint import JointTable, overall
from foveate.evaluation.pictures import annotated, data_url, thumbnail, thumbnails_of
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
from foveate.evaluation.runner import FIGURES, Evaluation, Summary, evaluate
from foveate.evaluation.scores import write_scores
from foveate.evaluation.statistics import bootstrap_interval

__all__ = [
    "CROP_ALONE",
    "FIGURES",
    "REPLACEMENTS",
    "UNCHANGED",
    "Case",
    "Evaluation",
    "Grounding",
    "JointTable",
    "ReplacedCrop",
    "Replacement",
    "Summary",
    "annotated",
    "best_iou",
    "bootstrap_interval",
    "data_url",
    "evaluate",
    "first_cases",
    "grounding_of",
    "iog_hit",
    "overall",
    "probe",
    "probe_figures",
    "thumbnail",
    "thumbnails_of",
    "valid_boxes",
    "write_comparison",
    "write_report",
    "write_scores",
]
