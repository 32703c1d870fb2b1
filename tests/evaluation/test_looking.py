"""Policies built to differ get different verdicts, from intervals that truly tell them apart."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.evaluation.policies import Policy
from tests.scripted import ScriptedGenerator, question

from foveate.context import Context
from foveate.evaluation.looking import MARGIN, TITLES, Finding, Looking, Move, ProbeFigure, looking
from foveate.evaluation.probes import QUESTION_ONLY, SETTINGS, UNCHANGED, Outcome, Probed
from foveate.evaluation.probing import probe_model
from foveate.evaluation.replacements import ALL, NEED_REGIONS
from foveate.images import View
from foveate.protocols import Direct, GroundThenAnswer, LocateThenAnswer, Protocol, ZoomTool
from foveate.questions.schema import Question
from foveate.regions import Box

COLOURS = {"A": ("red", (200, 30, 40)), "B": ("green", (30, 160, 60)), "C": ("yellow", (230, 210, 30))}
CELL = 56
QUESTIONS = 60


@dataclass(frozen=True)
class Card:
    """A card on blue, on a grid of four by three cells; the last cell is empty."""

    cell: int
    letter: str
    mark: int
    """Makes every picture another."""

    @property
    def box(self) -> Box:
        x, y = CELL * (self.cell % 4), CELL * (self.cell // 4)
        return Box(x, y, x + CELL, y + CELL)

    def __call__(self) -> Image.Image:
        image = Image.new("RGB", (4 * CELL, 3 * CELL), (20, 40, 210))
        corners = (self.box.x1, self.box.y1, self.box.x2 - 1, self.box.y2 - 1)
        ImageDraw.Draw(image).rectangle(corners, fill=COLOURS[self.letter][1])
        image.putpixel((4 * CELL - 1, 3 * CELL - 1), (self.mark % 256, self.mark // 256, 0))
        return image


def asked(seed: int, count: int = QUESTIONS, *, told: bool = False) -> list[Question]:
    """Of which colour is the card? Where `told`, the question itself says it."""
    rng = random.Random(f"cards/{seed}")
    made = []
    for number in range(count):
        card = Card(rng.randrange(11), rng.choice("ABC"), number)
        hint = f", the one that is {COLOURS[card.letter][0]}" if told else ""
        made.append(
            question(
                f"q{number}",
                image=card,
                text=f"Which colour has card {number}{hint}?",
                choices={letter: name for letter, (name, _) in COLOURS.items()},
                answer=card.letter,
                regions=((card.box,),),
            )
        )
    return made


def letter_in(views: Sequence[View]) -> str:
    """The colour of the card in these views; A, as a guess, where none is seen."""
    for view in views:
        pixels_HW3 = np.asarray(view.image)[::3, ::3].astype(int)
        for letter, (_, rgb) in COLOURS.items():
            if (abs(pixels_HW3 - rgb).max(-1) < 12).mean() > 0.01:
                return letter
    return "A"


def words(context: Context) -> str:
    return " ".join(str(part) for message in context.messages for part in message.parts if isinstance(part, str))


def slips(context: Context) -> bool:
    """One question in ten is answered wrong whatever is seen."""
    number = words(context).partition("Which colour has card ")[2].partition("?")[0]
    return random.Random(f"slip/{number}").random() < 0.1


def reads(what: str) -> Policy:
    def answers(context: Context) -> str:
        crops = [view for view in context.views if view.cropped]
        full = [view for view in context.views if not view.cropped]
        letter = {"crop": lambda: letter_in(crops), "full": lambda: letter_in(full)}.get(what, lambda: told(context))()
        return "ABC"["ABC".index(letter) - 1] if slips(context) else letter

    return Policy(answers)


def told(context: Context) -> str:
    """What the question says, which ends with it."""
    name = words(context).partition("the one that is ")[2].partition("?")[0]
    return next((letter for letter, (colour, _) in COLOURS.items() if colour == name), "A")


class Cards(ScriptedGenerator):
    """Points at the card that is asked about, or, `lost`, at the empty cell; then answers as its policy does."""

    def __init__(self, policy: Policy, questions: Sequence[Question], *, lost: bool = False) -> None:
        regions = {one.text: one.regions[0][0] for one in questions}

        def script(context: Context, seed: int) -> str:
            text = " ".join(
                str(part) for message in context.messages for part in message.parts if isinstance(part, str)
            )
            box = next(box for asked, box in regions.items() if asked in text)
            policy.boxes = [Box(3 * CELL, 2 * CELL, 4 * CELL, 3 * CELL) if lost else box]
            return policy(context, seed)

        super().__init__(script)


def look(what: str, protocol: Protocol, questions: Sequence[Question], *, lost: bool = False, seed: int = 0) -> Looking:
    generator = Cards(reads(what), questions, lost=lost)
    return probe_model(questions, protocol, generator, seed=seed).looking


HART, KEPT, MGPO, ZOOM = LocateThenAnswer(), LocateThenAnswer(withhold_full_image=False), GroundThenAnswer(), ZoomTool()
NAMES = {HART: "HART", KEPT: "full kept", MGPO: "MGPO", ZOOM: "tool"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("protocol", [KEPT, ZOOM], ids=NAMES.get)
def test_three_policies_get_three_verdicts(protocol: Protocol, seed: int) -> None:
    uses = look("crop", protocol, asked(seed), seed=seed)
    ignores = look("full", protocol, asked(seed), seed=seed)
    guesses = look("question", protocol, asked(seed, told=True), seed=seed)
    found = [one.verdict.finding for one in (uses, ignores, guesses)]
    assert found == [Finding.FROM_CROPS, Finding.ANSWERS_FIRST, Finding.FROM_QUESTION]
    # All three are right equally often: accuracy alone does not tell them apart.
    assert all(one.figures[UNCHANGED].accuracy > 0.8 for one in (uses, ignores, guesses))
    low, high = zip(*(one.dependence_interval for one in (uses, ignores, guesses)), strict=True)
    assert low[0] > max(high[1:]) + 0.1
    assert max(map(abs, (*low[1:], *high[1:]))) < MARGIN


@pytest.mark.parametrize("protocol", [HART, MGPO], ids=NAMES.get)
def test_one_that_looks_in_the_wrong_place(protocol: Protocol) -> None:
    found = look("crop", protocol, asked(5), lost=True)
    assert found.verdict.finding is Finding.WRONG_PLACE
    assert found.dependence_interval[0] <= 0 <= found.dependence_interval[1]  # there was nothing to lose


def test_one_that_makes_no_crops() -> None:
    found = look("full", Direct(), asked(0, 12))
    assert found.verdict.finding is Finding.NO_CROPS
    assert found.outcomes == {Outcome.WITHOUT_CROP: 12}
    assert (found.dependence, found.dependence_interval) == (None, None)
    assert found.figures[QUESTION_ONLY].questions == 12
    assert found.figures["noise"].questions == 0


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("what", ["crop", "full", "question"])
def test_a_few_questions_decide_nothing(what: str, count: int) -> None:
    found = look(what, KEPT, asked(1, count, told=what == "question"))
    assert found.verdict.finding is Finding.UNDECIDED
    assert found.verdict.title == "undecided"


def values(
    right: Mapping[str, float | None], *, count: int = 100, guess: float = 0.0, full: bool = True
) -> list[Probed]:
    """So many questions, each with the same values."""
    whole = {name: 1.0 for name in (UNCHANGED, *SETTINGS, *ALL)} | dict(right)
    return [Probed(f"q{n}", Outcome.FROM_CROP, whole, guess, full, regions=True) for n in range(count)]


def test_all_right_and_all_wrong() -> None:
    every = {name: 0.0 for name in (UNCHANGED, *SETTINGS, *ALL)}
    wrong, right = looking(values(every)), looking(values({}))
    assert wrong.verdict.finding is Finding.UNDECIDED
    assert "guessing" in wrong.verdict.because
    assert right.verdict.finding is Finding.FROM_QUESTION
    assert wrong.dependence == right.dependence == 0


def test_noise_that_disturbs_where_another_crop_does_not() -> None:
    found = looking(values({"noise": 0.0, QUESTION_ONLY: 0.0}))
    assert found.verdict.finding is Finding.UNDECIDED
    assert "another question's crop does not" in found.verdict.because
    assert looking(values({"noise": 0.0, "other_crop": 0.0, QUESTION_ONLY: 0.0})).verdict.finding is Finding.FROM_CROPS
    assert looking(values({"noise": 0.0, "other_crop": None, QUESTION_ONLY: 0.0})).verdict.finding is Finding.FROM_CROPS


def test_nothing_is_said_of_a_full_image_that_was_not_there() -> None:
    rights = {QUESTION_ONLY: 0.0}
    assert looking(values(rights)).verdict.finding is Finding.ANSWERS_FIRST
    assert looking(values(rights, full=False)).verdict.finding is Finding.UNDECIDED


def test_one_that_is_hardly_ever_right_has_too_little_to_lose() -> None:
    """Few right answers of a hundred, from the crop or not: nothing moves by more than the margin."""
    wrong = {name: 0.0 for name in (UNCHANGED, *SETTINGS, *ALL)}
    from_crops = {"noise": 0.0, "other_crop": 0.0, QUESTION_ONLY: 0.0}
    for count, right in ((15, {}), (15, {QUESTION_ONLY: 0.0}), (5, from_crops)):
        found = looking([*values(right, count=count), *values(wrong, count=100 - count)])
        assert found.figures["noise"].move is Move.STAYS
        assert found.verdict.finding is Finding.UNDECIDED
        assert "little can be lost" in found.verdict.because


@pytest.mark.parametrize(
    ("missed", "finding"), [(4, Finding.FROM_CROPS), (10, Finding.FROM_CROPS), (30, Finding.WRONG_PLACE)]
)
def test_a_few_missed_places_are_not_the_wrong_place(missed: int, finding: Finding) -> None:
    """All answers hang on the crops; of a hundred so many are wrong until the true crop is shown."""
    lost = {"noise": 0.0, "other_crop": 0.0, QUESTION_ONLY: 0.0}
    found = looking([*values(lost, count=100 - missed), *values(lost | {UNCHANGED: 0.0}, count=missed)])
    assert found.figures["true_crop"].change == pytest.approx(missed / 100)
    assert found.verdict.finding is finding


def test_what_guessing_gives_counts_for_nothing() -> None:
    """Right in one question of two, of two choices each, with and without a picture."""
    base = [*values({}, guess=0.5), *values({name: 0.0 for name in (UNCHANGED, *SETTINGS, *ALL)}, guess=0.5)]
    assert looking(base).verdict.finding is Finding.UNDECIDED


def test_figures_are_over_the_questions_answered_from_a_crop() -> None:
    other = Probed("w", Outcome.WITHOUT_CROP, {UNCHANGED: 0.0, QUESTION_ONLY: 0.0, "noise": None}, 0.0, True, False)
    lost = Probed("f", Outcome.FAILED, {UNCHANGED: None, QUESTION_ONLY: None, "noise": None}, 0.0, False, False)
    found = looking([*values({"noise": 0.0}, count=3), other, lost])
    assert found.figures[UNCHANGED] == ProbeFigure(UNCHANGED, TITLES[UNCHANGED], 1.0, (1, 1), 0.0, (0, 0), 1.0, 3)
    assert (found.figures["noise"].accuracy, found.dependence) == (0, 1)
    assert found.outcomes == {Outcome.FROM_CROP: 3, Outcome.WITHOUT_CROP: 1, Outcome.FAILED: 1}


def test_a_change_is_of_the_same_questions() -> None:
    mixed = [*values({"true_crop": None}, count=5), *values({UNCHANGED: 0.0, "true_crop": 1.0}, count=5)]
    figure = looking(mixed).figures["true_crop"]
    assert (figure.accuracy, figure.change, figure.questions) == (1, 1, 5)
    assert figure.p == pytest.approx(2 / 2**5)


def test_nothing_at_all() -> None:
    found = looking([])
    assert (found.figures, found.outcomes, found.verdict.finding) == ({}, {}, Finding.NO_CROPS)


@pytest.mark.parametrize(
    ("interval", "move"),
    [
        ((-0.02, 0.02), Move.STAYS),
        ((0.01, 0.09), Move.STAYS),  # sure, and too little to speak of
        ((0.01, 0.2), Move.RISES),
        ((-0.5, -0.3), Move.FALLS),
        ((-0.05, 0.2), Move.OPEN),
        ((-1.0, 1.0), Move.OPEN),
        (None, Move.OPEN),
    ],
)
def test_moves(interval: tuple[float, float] | None, move: Move) -> None:
    assert Move.of(interval) is move


def test_json_has_everything_that_a_chart_needs() -> None:
    written = looking(values({"noise": 0.0, "true_crop": None}, count=8)).to_json()
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    by_name = written["probes"]
    assert by_name.keys() == TITLES.keys()
    for name, figure in by_name.items():
        assert (figure["name"], figure["title"]) == (name, TITLES[name])
        assert figure["needs_regions"] == (name in NEED_REGIONS)
    assert by_name["noise"]["change"] == -1
    assert by_name["true_crop"] | {"accuracy": None, "interval": None, "questions": 0} == by_name["true_crop"]
    assert written["look_dependence"]["value"] == 1
    verdict = written["look_dependence"]["verdict"]
    assert (verdict["finding"], verdict["title"]) == ("from_crops", "answers from its crops")
    assert "-1.000" in verdict["because"]
