"""What a recipe may say, and where it is read from. It is data: it names a protocol, rewards, an objective; no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from foveate.errors import FoveateError
from foveate.images import PixelBudget
from foveate.protocols import Protocol
from foveate.recipes.sections import (
    PROTOCOL_NAMES,
    SFT,
    Images,
    LocateSettings,
    MultiTurnSettings,
    Objective,
    Optimisation,
    ProtocolSettings,
    Rollout,
    Section,
    Setup,
    Split,
    protocol_name,
)
from foveate.rewards import NEED_POINTS, NEED_REGIONS, TERMS

USUAL_RECIPE = "hart"
"""What a model is asked by that comes from no run."""
StageName = Literal["rl", "sft"]
"""Reinforcement learning on sampled episodes; supervised fine-tuning on reference answers."""


class RecipeError(FoveateError, ValueError):
    """A recipe or an override that cannot be used; the message names the setting and the mend."""


class Recipe(Section):
    """The stages of a training run, as a method table of a paper has them."""

    name: str
    title: str
    paper: str | None = None
    stages: list[StageName] = Field(default=["rl"], min_length=1)
    """In this order; each starts from the weights of the one before."""
    protocol: Annotated[ProtocolSettings, Field(discriminator="name")]
    images: Images = Images()
    rewards: dict[str, float] = Field(default={"accuracy": 1.0}, min_length=1)
    objective: Objective = Objective()
    rollout: Rollout = Rollout()
    optimisation: Optimisation = Optimisation()
    sft: SFT = SFT()
    split: Split = Split()
    setup: Setup = Setup()
    published: dict[str, Any] = Field(default_factory=dict)
    """Setting to the paper's value, whatever the recipe's own is; in words where the paper gives no figure.
    Null takes away what an extended recipe says."""
    assumptions: dict[str, str] = Field(default_factory=dict)
    """Setting to reason, where the paper is silent or could not be had."""

    @field_validator("protocol", mode="before")
    @classmethod
    def _short_names(cls, protocol: object) -> object:
        if isinstance(protocol, Mapping) and "name" in protocol:
            return {**protocol, "name": protocol_name(protocol["name"])}
        return protocol

    @field_validator("stages", mode="before")
    @classmethod
    def _stages_as_words(cls, stages: object) -> object:
        """Accepts `rl,sft` too."""
        return [name.strip() for name in stages.split(",")] if isinstance(stages, str) else stages

    @field_validator("stages")
    @classmethod
    def _no_stage_twice(cls, stages: list[StageName]) -> list[StageName]:
        if len(set(stages)) < len(stages):
            raise ValueError("a stage comes twice")
        return stages

    @field_validator("rewards")
    @classmethod
    def _known_rewards(cls, rewards: dict[str, float]) -> dict[str, float]:
        if unknown := rewards.keys() - TERMS.keys():
            raise ValueError(f"unknown reward {', '.join(sorted(unknown))}; there are: {', '.join(TERMS)}")
        return rewards

    @field_validator("published")
    @classmethod
    def _published_is_said(cls, published: dict[str, Any]) -> dict[str, Any]:
        return {setting: value for setting, value in published.items() if value is not None}

    @model_validator(mode="after")
    def _updates_divide_a_step(self) -> Recipe:
        own = self.optimisation.questions_per_update
        if own and self.optimisation.questions_per_step % own:
            raise ValueError("optimisation.questions_per_step must be a multiple of questions_per_update")
        return self

    @model_validator(mode="after")
    def _crops_need_a_locating_turn(self) -> Recipe:
        locates = isinstance(self.protocol, LocateSettings | MultiTurnSettings)
        if "sft" in self.stages and self.sft.context == "crops" and not locates:
            raise ValueError(
                f"sft.context is crops, but the protocol {self.protocol.name} has no locating turn of its own: "
                "set sft.context=full_image"
            )
        return self

    @model_validator(mode="after")
    def _a_budget_is_of_a_view_that_is_shown(self) -> Recipe:
        """Not so of `crop_max_pixels`: methods that are compared share their budgets, and some make no crop."""
        asked = self.protocol
        shown = isinstance(asked, LocateSettings) and (
            not asked.withhold_full_image
            or asked.without_region == "full_image"
            or ("sft" in self.stages and self.sft.context == "crops")
        )
        if self.images.answer_max_pixels and not shown:
            raise ValueError(
                "images.answer_max_pixels is of the full image beside its crops, which is not shown: leave it out, or "
                "set protocol.name=locate_answer and protocol.withhold_full_image=false"
            )
        return self

    @model_validator(mode="after")
    def _notes_are_about_settings(self) -> Recipe:
        known = self.settings()
        for notes in ("published", "assumptions"):
            if unknown := getattr(self, notes).keys() - known.keys():
                raise ValueError(f"{notes} names {', '.join(sorted(unknown))}, and there is no such setting")
        return self

    def settings(self) -> dict[str, Any]:
        """Every setting of the method by its dotted name, as `--set` takes it; `setup` is none of the method's."""
        about = {"name", "title", "paper", "setup", "published", "assumptions"}
        settings: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json", exclude=about).items():
            inner = value if isinstance(value, dict) else {}
            settings |= {f"{name}.{key}": one for key, one in inner.items()} or {name: value}
        return settings

    @property
    def needs_regions(self) -> bool:
        """Whether a reward of the stage `rl` looks at true boxes; no other part of the training may see them.

        A reward of weight 0 is only logged, which is no reason to see them.
        """
        return any(self.rewards.get(name) for name in NEED_REGIONS)

    @property
    def needs_points(self) -> bool:
        """The same of true points."""
        return any(self.rewards.get(name) for name in NEED_POINTS)

    @property
    def importance_cap(self) -> float | None:
        """At which importance weights are truncated; None where the trainer's own model samples and nothing is said."""
        said = self.objective.importance_sampling_cap
        return 2.0 if said is None and self.setup.engine.name != "local" else said

    @property
    def reward_names(self) -> list[str]:
        """The rewards that are measured: all but those of weight 0 that look at what is not seen."""
        unseen = (frozenset() if self.needs_regions else NEED_REGIONS) | (
            frozenset() if self.needs_points else NEED_POINTS
        )
        return [name for name in self.rewards if name not in unseen]

    def build_protocol(self, own: PixelBudget) -> Protocol:
        """The protocol, for a family whose processor has the pixel budget `own`."""
        return self.protocol.build(self.images, own)

    def as_tuned(self) -> Recipe:
        """The recipe with the protocol that leads to the contexts of the stage `sft`: what comes out of it is asked so.

        With crops it is the recipe's own protocol, the full image kept; where no valid box is written, the full image
        stands alone. With the full image alone it is `direct`.
        """
        if self.sft.context == "full_image":
            return self.with_settings(["protocol.name=direct", "images.answer_max_pixels=null"])
        if isinstance(self.protocol, LocateSettings):
            return self.with_settings(["protocol.withhold_full_image=false", "protocol.without_region=full_image"])
        return self

    def with_settings(self, overrides: Sequence[str]) -> Recipe:
        """The recipe with overrides such as `objective.k=0.3`.

        Raises:
            RecipeError: as `load_recipe`.
        """
        return _resolved(self.model_dump(mode="json"), overrides, self.name)


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    files = resources.files("foveate.recipes").iterdir()
    return sorted(Path(file.name).stem for file in files if file.name.endswith(".yaml"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A shipped recipe by name, or a YAML file by path, with overrides such as `objective.k=0.3`.

    A recipe that says `extends: other` starts from that one, a file by its path from the extending file; where it names
    another protocol, only the new one's settings count.

    Raises:
        RecipeError: no such recipe, an unknown setting, or a value that does not fit, each named.
    """
    return _resolved(_read(name), overrides, name)


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _resolved(values: dict[str, Any], overrides: Sequence[str], name: str | Path) -> Recipe:
    for override in overrides:
        key, found, text = override.partition("=")
        if not found or not key:
            raise RecipeError(f"--set {override!r}: write SETTING=VALUE, for example objective.k=0.3")
        try:
            setting: Any = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError(f"--set {override!r}: {text!r} is no value in YAML; put a text in quotes") from None
        for part in reversed(key.strip().split(".")):
            setting = {part: setting}
        _laid_over(values, setting)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [f"  {_where(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
        raise RecipeError(f"recipe {name}:\n" + "\n".join(problems)) from None


def _read(name: str | Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings of a recipe over those that it extends; `extending` are the files on the way to it."""
    path = Path(name)
    if extending and path.suffix in (".yaml", ".yml"):
        path = extending[-1].parent / path
    if path.resolve() in extending:
        raise RecipeError(f"{path} extends itself")
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"{path}: no such recipe file")
        text = path.read_text(encoding="utf-8")
    elif str(name) in recipe_names():
        text = resources.files("foveate.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise RecipeError(f"no recipe {str(name)!r}; there are {', '.join(recipe_names())}, or give a .yaml file")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {name}: {error}") from None
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name}: expected settings such as 'name: ...', found {type(values).__name__}")
    if parent := values.pop("extends", None):
        return _laid_over(_read(parent, (*extending, path.resolve())), values)
    return values


def _laid_over(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` changed by `more`. Another protocol takes nothing over from the one before, whose settings do not fit."""
    old, new = base.get("protocol"), more.get("protocol")
    if isinstance(old, dict) and isinstance(new, Mapping) and _another(new.get("name"), old.get("name")):
        base["protocol"] = {}
        for notes in ("published", "assumptions"):
            kept = {key: note for key, note in base.get(notes, {}).items() if not key.startswith("protocol.")}
            if notes == "published" and "protocol.name" in base.get(notes, {}):
                kept["protocol.name"] = base[notes]["protocol.name"]
            base[notes] = kept
    return _merge(base, more)


def _another(new: object, old: object) -> bool:
    return new is not None and protocol_name(new) != protocol_name(old)


def _merge(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
    return base


def _where(location: tuple[int | str, ...]) -> str:
    """The setting's dotted name; pydantic puts the union's tag between `protocol` and its settings."""
    names = [str(part) for part in location if part not in PROTOCOL_NAMES]
    return ".".join(names) or "recipe"
