"""What a recipe may say. A recipe is data: it names a protocol, rewards and an objective, and holds no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from foveate.errors import FoveateError
from foveate.images import PixelBudget
from foveate.protocols import (
    Direct,
    GroundAndAnswer,
    GroundThenAnswer,
    LocateThenAnswer,
    PointThenCount,
    Protocol,
    ZoomTool,
)
from foveate.rewards import NEED_POINTS, NEED_REGIONS, TERMS

PositiveInt = Annotated[int, Field(gt=0)]
StageName = Literal["rl", "sft"]
"""Reinforcement learning on sampled episodes; supervised fine-tuning on reference answers."""


class RecipeError(FoveateError, ValueError):
    """A recipe or an override that cannot be used; the message names the setting and the mend."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Images(_Section):
    """Pixel budgets; the checkpoint's own where None."""

    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    crop_max_pixels: PositiveInt | None = None
    answer_max_pixels: PositiveInt | None = None
    """Of the full image where the answer turn of `locate_answer` shows it; as when locating where None."""

    def view_budget(self, own: PixelBudget) -> PixelBudget:
        """The budget of the full image."""
        return _budget(self.min_pixels, self.max_pixels, own)

    def crop_budget(self, own: PixelBudget) -> PixelBudget:
        """The budget of one crop."""
        return _budget(self.min_pixels, self.crop_max_pixels or self.max_pixels, own)

    def answer_budget(self, own: PixelBudget) -> PixelBudget | None:
        """The budget of the full image beside its crops, where it has one of its own."""
        return _budget(self.min_pixels, self.answer_max_pixels, own) if self.answer_max_pixels else None


def _budget(least: int | None, most: int | None, own: PixelBudget) -> PixelBudget:
    most = most or own.max_pixels
    return PixelBudget(min(least or own.min_pixels, most), most)


class DirectSettings(_Section):
    """Answer from the small view."""

    name: Literal["direct"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return Direct(view_budget=images.view_budget(own))


class LocateSettings(_Section):
    """Locate on the small view, answer from crops of the original."""

    name: Literal["locate_answer"]
    withhold_full_image: bool = True
    max_boxes: PositiveInt = 4
    without_region: Literal["stop", "full_image"] = "stop"

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return LocateThenAnswer(
            withhold_full_image=self.withhold_full_image,
            max_boxes=self.max_boxes,
            without_region=self.without_region,
            view_budget=images.view_budget(own),
            crop_budget=images.crop_budget(own),
            answer_view_budget=images.answer_budget(own),
        )


class MultiTurnSettings(_Section):
    """Ground turn by turn over a growing history, then answer."""

    name: Literal["multi_turn"]
    turns: int = Field(default=2, ge=2)

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return GroundThenAnswer(
            turns=self.turns, view_budget=images.view_budget(own), crop_budget=images.crop_budget(own)
        )


class GroundAnswerSettings(_Section):
    """Coordinates and the answer in one reply, from the small view."""

    name: Literal["ground_answer"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return GroundAndAnswer(view_budget=images.view_budget(own))


class ZoomSettings(_Section):
    """A crop tool that the model may call, or not."""

    name: Literal["zoom"]
    max_calls: PositiveInt = 3

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return ZoomTool(
            max_calls=self.max_calls, view_budget=images.view_budget(own), crop_budget=images.crop_budget(own)
        )


class CountSettings(_Section):
    """Point at each object that counts, then give the count."""

    name: Literal["count"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return PointThenCount(view_budget=images.view_budget(own))


class Objective(_Section):
    """AP-GRPO; k = 0 is GRPO."""

    scale_rewards: Literal["group", "none"] = "group"
    k: float = Field(default=0.0, ge=0, lt=1)
    difficulty: float = Field(default=0.0, ge=0, le=1)
    """Weighs the policy term of a whole group by 1 + difficulty (0.5 - mean reward): hard questions count more."""
    beta: float = Field(default=0.04, ge=0)
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    loss_type: Literal["grpo", "dapo", "dr_grpo"] = "grpo"
    """Length normalisation: per episode, per token, or by a constant; names as in TRL."""
    importance_sampling_cap: float | None = Field(default=None, gt=0)
    """Corrects for a sampler that is not the trainer, by importance weights truncated at this."""
    clip_low: float = Field(default=0.2, gt=0, le=1)
    clip_high: float = Field(default=0.2, gt=0)


class Rollout(_Section):
    """How a group is sampled."""

    group_size: PositiveInt = 8
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: PositiveInt = 512


class AdamW(_Section):
    """The optimizer of a stage."""

    learning_rate: float = Field(default=1e-6, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "linear"] = "constant"
    """Of the learning rate after warm-up; linear goes to 0 at the last step."""
    tokens_per_batch: PositiveInt = 16_384
    """Positions of one forward and backward, padding included."""


class Optimisation(AdamW):
    """The stage `rl`: AdamW and the shape of a step."""

    steps: PositiveInt = 80
    questions_per_step: PositiveInt = 16
    questions_per_update: PositiveInt | None = None
    """Fewer than `questions_per_step`: several updates per batch of rollouts, each on other questions."""


class SFT(AdamW):
    """The stage `sft`: what the reference answer is read from, and how long it is trained on."""

    context: Literal["crops", "full_image"] = "crops"
    """The full image and the crops that the policy chooses, as inference shows them; or the full image alone."""
    learning_rate: float = Field(default=1e-5, gt=0)
    schedule: Literal["constant", "linear"] = "linear"
    warmup_steps: int = Field(default=5, ge=0)
    epochs: PositiveInt = 1
    questions_per_update: PositiveInt = 64
    """At most; all updates are of nearly the same size."""


class Split(_Section):
    """How the questions are shared out where there are two stages, so that none is in both."""

    sft_share: float = Field(default=0.5, gt=0, lt=1)
    sft_count: PositiveInt | None = None
    """Instead of a share."""
    seed: int = 0


class Recipe(_Section):
    """The stages of a training run, as a method table of a paper has them."""

    name: str
    title: str
    paper: str | None = None
    stages: list[StageName] = Field(default=["rl"], min_length=1)
    """In this order; each starts from the weights of the one before."""
    protocol: Annotated[
        DirectSettings | LocateSettings | MultiTurnSettings | GroundAnswerSettings | ZoomSettings | CountSettings,
        Field(discriminator="name"),
    ]
    images: Images = Images()
    rewards: dict[str, float] = Field(default={"accuracy": 1.0}, min_length=1)
    objective: Objective = Objective()
    rollout: Rollout = Rollout()
    optimisation: Optimisation = Optimisation()
    sft: SFT = SFT()
    split: Split = Split()
    published: dict[str, Any] = {}
    """Setting to the paper's value, whatever the recipe's own is; in words where the paper gives no figure.
    Null takes away what an extended recipe says."""
    assumptions: dict[str, str] = {}
    """Setting to reason, where the paper is silent or could not be had."""

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
    def _notes_are_about_settings(self) -> Recipe:
        known = self.settings()
        for notes in ("published", "assumptions"):
            if unknown := getattr(self, notes).keys() - known.keys():
                raise ValueError(f"{notes} names {', '.join(sorted(unknown))}, and there is no such setting")
        return self

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name, as `--set` takes it."""
        about = {"name", "title", "paper", "published", "assumptions"}
        settings: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json", exclude=about).items():
            inner = value if isinstance(value, dict) else {}
            settings |= {f"{name}.{key}": one for key, one in inner.items()} or {name: value}
        return settings

    @property
    def needs_regions(self) -> bool:
        """Whether a reward of the stage `rl` looks at true boxes; no other part of the training may see them."""
        return bool(NEED_REGIONS & self.rewards.keys())

    @property
    def needs_points(self) -> bool:
        """The same of true points."""
        return bool(NEED_POINTS & self.rewards.keys())

    def build_protocol(self, own: PixelBudget) -> Protocol:
        """The protocol, for a family whose processor has the pixel budget `own`."""
        return self.protocol.build(self.images, own)

    def as_tuned(self) -> Recipe:
        """The recipe with the protocol that leads to the contexts of the stage `sft`: what comes out of it is asked so.

        With crops it is the recipe's own protocol, the full image kept; where no valid box is written, the full image
        stands alone. With the full image alone it is `direct`.
        """
        if self.sft.context == "full_image":
            return self.with_settings(["protocol.name=direct"])
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
    if isinstance(old, dict) and isinstance(new, Mapping) and new.get("name", old.get("name")) != old.get("name"):
        base["protocol"] = {}
        for notes in ("published", "assumptions"):
            kept = {key: note for key, note in base.get(notes, {}).items() if not key.startswith("protocol.")}
            if notes == "published" and "protocol.name" in base.get(notes, {}):
                kept["protocol.name"] = base[notes]["protocol.name"]
            base[notes] = kept
    return _merge(base, more)


def _merge(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
    return base


_SECTIONS = get_args(Recipe.model_fields["protocol"].annotation)
_PROTOCOLS = {name for section in _SECTIONS for name in get_args(section.model_fields["name"].annotation)}


def _where(location: tuple[int | str, ...]) -> str:
    """The setting's dotted name; pydantic puts the union's tag between `protocol` and its settings."""
    names = [str(part) for part in location if part not in _PROTOCOLS]
    return ".".join(names) or "recipe"
