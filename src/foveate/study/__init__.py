"""The laboratory: methods compared in miniature, on procedural scenes, over seeds, at equal budget.

`plans` says what is compared, `run` trains and measures it job by job, each job leaving one *cell*: a method trained
from one base with one seed, and what was measured on it question by question. Everything that is said about cells
(means with intervals, paired tests, verdicts on claims, plots, the report) is computed from their files alone, so that
it can be made again without training.
"""
