"""Runs: training as it is started, and what a run's folder holds."""

from foveate.runs.folders import (
    EXPORTED_RECIPE,
    Moment,
    Origin,
    load_policy,
    moments,
    origin_of,
    recipe_for,
    stage_folders,
)
from foveate.runs.starting import GroundingObserver, Standing, start

__all__ = [
    "EXPORTED_RECIPE",
    "GroundingObserver",
    "Moment",
    "Origin",
    "Standing",
    "load_policy",
    "moments",
    "origin_of",
    "recipe_for",
    "stage_folders",
    "start",
]
