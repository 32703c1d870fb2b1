"""What a study compares: bases, methods, ways of asking. All of it is data; `plans` has the studies themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from foveate.questions.scenes import SceneConfig
from foveate.study.claims import Claim
from foveate.study.report import Group, Sweep


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, and the scenes that methods which start from it are trained and measured on.

    Attributes:
        name: of the shipped base, or of one that the laboratory makes (`laboratory.variants`).
        scenes: what it was taught on.
        seconds: that it takes to make on one thread.
    """

    name: str
    scenes: SceneConfig
    seconds: int = 0


@dataclass(frozen=True, slots=True)
class Way:
    """A way of asking at the end: a recipe's protocol, with settings.

    Attributes:
        recipe: its name.
        settings: overrides, as after `--set`.
        probed: whether the answer turn is asked again with other crops.
    """

    recipe: str
    settings: tuple[str, ...] = ()
    probed: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """One way of training a base.

    Attributes:
        name: unique in a study; of its folder.
        about: what it is, in a line.
        base: the name of what it starts from.
        recipe: of the training; None: the base as it is.
        settings: overrides of the recipe.
        after: the method whose result of the same seed it starts from instead.
        selected: it trains on the questions whose answer by the base changes at some resolution (LFPC, stage I), the
            same for all seeds: shown at that resolution (`"gap"`), or at full resolution all the same (`"no gap"`).
        ways: how it is asked at the end, by name.
        seconds: that a cell takes on one thread, roughly, for what is said beforehand.
    """

    name: str
    about: str
    base: str
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    after: str | None = None
    selected: Literal["gap", "no gap"] | None = None
    ways: Mapping[str, Way] = field(default_factory=dict)
    seconds: int = 45


@dataclass(frozen=True, slots=True)
class Study:
    """What is run, and what is said about it.

    Attributes:
        name: of the study.
        bases: by their names.
        methods: those that others start from before these; each starts from the base of the one it comes after.
        seeds: every method is run with each of them.
        held_out: questions that every cell is measured on, the same for all of a base.
        groups, sweeps, claims: of its report.
    """

    name: str
    bases: Mapping[str, Base]
    methods: Sequence[Method]
    seeds: Sequence[int]
    held_out: int
    groups: Sequence[Group]
    sweeps: Sequence[Sweep] = ()
    claims: Sequence[Claim] = ()
