"""Cells as a study makes them, from planted effects."""

import numpy as np

from foveate.study.results import Cell

QUESTIONS = tuple(f"scene-{index}" for index in range(120))


def make(
    method, *, accuracy=0.6, place=0.6, seeds=range(5), base="view", spread=0.03, questions=QUESTIONS, ways=("own",)
):
    """Cells of one method: `place` of its crops find the true region, and `accuracy` of its answers are right.

    Questions are hard or easy alike for all methods and seeds; a seed is better or worse by `spread`.
    """
    hard = np.random.default_rng(9).normal(0, 0.1, len(questions))
    cells = []
    for seed in seeds:
        rng = np.random.default_rng([seed, *f"{method}@{base}".encode()])
        luck = rng.normal(0, spread)
        measures = {}
        for way in ways:
            found = rng.random(len(questions)) < np.clip(place + luck + hard, 0, 1)
            iog = np.where(found, rng.uniform(0.31, 1, len(questions)), rng.uniform(0, 0.3, len(questions)))
            valid = rng.random(len(questions)) < 0.95
            measures |= {
                f"{way}/accuracy": rng.random(len(questions)) < np.clip(accuracy + luck + hard, 0, 1),
                f"{way}/iog": np.where(valid, iog, 0),
                f"{way}/iou": np.where(valid, iog * 0.7, 0),
                f"{way}/area": np.where(valid, rng.uniform(0.02, 0.06, len(questions)), np.nan),
                f"{way}/valid": valid,
                f"{way}/answer:unchanged": rng.random(len(questions)) < np.clip(accuracy + luck + hard, 0, 1),
                f"{way}/answer:true_crop": rng.random(len(questions)) < 0.95,
                f"{way}/answer:noise": rng.random(len(questions)) < 0.15,
                f"{way}/answer:wrong_card": rng.random(len(questions)) < 0.1,
                f"{way}/answer:crop_alone": rng.random(len(questions)) < accuracy,
            }
        cells.append(
            Cell(
                method=method,
                base=base,
                seed=seed,
                questions=questions,
                measures={name: listed(values) for name, values in measures.items()},
                training={"steps": 60, "rollouts": 7680, "updates": 60, "seconds": 50.0 + seed},
                commit="1234abc",
            )
        )
    return cells


def plain(method, table, *, base="view", figure="own/accuracy", questions=None):
    """Cells whose one figure is the given table of seeds by questions."""
    questions = questions or tuple(f"q{index}" for index in range(len(table[0])))
    return [
        Cell(method=method, base=base, seed=seed, questions=questions, measures={figure: listed(row)})
        for seed, row in enumerate(table)
    ]


def listed(values):
    return tuple(None if np.isnan(value) else float(value) for value in values)
