"""Scores with intervals, grounding measured against true regions, and reports a person can read."""

from foveate.evaluation.comparison import write_comparison
from foveate.evaluation.curves import grounding_curves
from foveate.evaluation.folder import EvaluationFolder
from foveate.evaluation.gains import Checkpoint, Gains, Progress, account, gains
from foveate.evaluation.grounding import Grounding, best_iou, grounding_of, iog_hit, valid_boxes
from foveate.evaluation.joint import JointTable, overall
from foveate.evaluation.looking import Finding, Looking, ProbeFigure, Verdict, looking
from foveate.evaluation.official import Figure, Official, official
from foveate.evaluation.pictures import annotated, data_url, thumbnail, thumbnails_of
from foveate.evaluation.probes import (
    CROP_ALONE,
    FULL_SHOWN,
    QUESTION_ONLY,
    UNCHANGED,
    Outcome,
    Probed,
    Prober,
    basic_prober,
    probe,
    probe_figures,
)
from foveate.evaluation.probing import ModelLook, answers_of, directly, probe_model
from foveate.evaluation.replacements import ALL, NEED_REGIONS, REPLACEMENTS, ReplacedCrop, Replacement
from foveate.evaluation.report import Case, first_cases, write_report
from foveate.evaluation.runner import Evaluation, EvaluationError, evaluate
from foveate.evaluation.scores import score_record, write_scores
from foveate.evaluation.scoring import FIGURES, Attempt, Scored, Summary
from foveate.evaluation.statistics import bootstrap_interval
from foveate.protocols.answers import extract_choice

__all__ = [
    "ALL",
    "CROP_ALONE",
    "FIGURES",
    "FULL_SHOWN",
    "NEED_REGIONS",
    "QUESTION_ONLY",
    "REPLACEMENTS",
    "UNCHANGED",
    "Attempt",
    "Case",
    "Checkpoint",
    "Evaluation",
    "EvaluationError",
    "EvaluationFolder",
    "Figure",
    "Finding",
    "Gains",
    "Grounding",
    "JointTable",
    "Looking",
    "ModelLook",
    "Official",
    "Outcome",
    "ProbeFigure",
    "Probed",
    "Prober",
    "Progress",
    "ReplacedCrop",
    "Replacement",
    "Scored",
    "Summary",
    "Verdict",
    "account",
    "annotated",
    "answers_of",
    "basic_prober",
    "best_iou",
    "bootstrap_interval",
    "data_url",
    "directly",
    "evaluate",
    "extract_choice",
    "first_cases",
    "gains",
    "grounding_curves",
    "grounding_of",
    "iog_hit",
    "looking",
    "official",
    "overall",
    "probe",
    "probe_figures",
    "probe_model",
    "score_record",
    "thumbnail",
    "thumbnails_of",
    "valid_boxes",
    "write_comparison",
    "write_report",
    "write_scores",
]
