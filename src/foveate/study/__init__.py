"""The laboratory: methods compared in miniature, on procedural scenes, over seeds, at equal budget.

A *cell* is one method trained from one base with one seed, and what was measured on it question by question. Cells are
trained one by one and kept as files; everything that is said about them (means with intervals, paired tests, verdicts
on claims, plots, the report) is computed from those files alone, so that it can be made again without training.
"""
