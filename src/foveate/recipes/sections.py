"""The sections of a recipe: what may be set, within which bounds, and the protocol that settings stand for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from foveate.images import PixelBudget
from foveate.protocols import (
    Direct,
    GroundAndAnswer,
    GroundThenAnswer,
    GroundUntilAnswered,
    LocateThenAnswer,
    PointThenCount,
    Protocol,
    ZoomTool,
)

PositiveInt = Annotated[int, Field(gt=0)]
Tracker = Literal["tensorboard", "trackio", "wandb"]


class Section(BaseModel):
    """Settings that belong together; an unknown one is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Images(Section):
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

    def largest(self, own: PixelBudget) -> int:
        """Pixels of the largest picture that is shown, whatever the protocol."""
        budgets = (self.view_budget(own), self.crop_budget(own), self.answer_budget(own))
        return max(budget.max_pixels for budget in budgets if budget)


def _budget(least: int | None, most: int | None, own: PixelBudget) -> PixelBudget:
    most = most or own.max_pixels
    return PixelBudget(min(least or own.min_pixels, most), most)


class DirectSettings(Section):
    """Answer from the small view."""

    name: Literal["direct"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return Direct(view_budget=images.view_budget(own))


class LocateSettings(Section):
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


class MultiTurnSettings(Section):
    """Ground turn by turn over a growing history, then answer."""

    name: Literal["multi_turn"]
    turns: int = Field(default=2, ge=2)

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return GroundThenAnswer(
            turns=self.turns, view_budget=images.view_budget(own), crop_budget=images.crop_budget(own)
        )


class FreeMultiTurnSettings(Section):
    """Over a growing history, answer as soon as possible, and ground until then."""

    name: Literal["multi_turn_free"]
    turns: int = Field(default=3, ge=2)
    """At most."""

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return GroundUntilAnswered(
            turns=self.turns, view_budget=images.view_budget(own), crop_budget=images.crop_budget(own)
        )


class GroundAnswerSettings(Section):
    """Coordinates and the answer in one reply, from the small view."""

    name: Literal["ground_answer"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return GroundAndAnswer(view_budget=images.view_budget(own))


class ZoomSettings(Section):
    """A crop tool that the model may call, or not."""

    name: Literal["zoom"]
    max_calls: PositiveInt = 3

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return ZoomTool(
            max_calls=self.max_calls, view_budget=images.view_budget(own), crop_budget=images.crop_budget(own)
        )


class CountSettings(Section):
    """Point at each object that counts, then give the count."""

    name: Literal["count"]

    def build(self, images: Images, own: PixelBudget) -> Protocol:
        """The protocol for a family whose own budget is `own`."""
        return PointThenCount(view_budget=images.view_budget(own))


ProtocolSettings = (
    DirectSettings
    | LocateSettings
    | MultiTurnSettings
    | FreeMultiTurnSettings
    | GroundAnswerSettings
    | ZoomSettings
    | CountSettings
)
PROTOCOL_NAMES = frozenset(
    name for section in get_args(ProtocolSettings) for name in get_args(section.model_fields["name"].annotation)
)
"""As recipes are written down."""
_SHORT = {"locate": "locate_answer"}


def protocol_name(name: object) -> object:
    """A protocol's name as recipes are written down, of one that was typed: `locate` is short for `locate_answer`."""
    return _SHORT.get(name, name) if isinstance(name, str) else name


class Objective(Section):
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
    """Corrects for a sampler that is not the trainer, by importance weights truncated at this. Where None, 2 for an
    engine other than `local` (setup.engine.name), and no correction for `local`, which is the trainer."""
    clip_low: float = Field(default=0.2, gt=0, le=1)
    clip_high: float = Field(default=0.2, gt=0)


class Rollout(Section):
    """How a group is sampled."""

    group_size: PositiveInt = 8
    temperature: float = Field(default=1.0, gt=0)
    max_new_tokens: PositiveInt = 512


class AdamW(Section):
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


class Split(Section):
    """How the questions are shared out where there are two stages, so that none is in both."""

    sft_share: float = Field(default=0.5, gt=0, lt=1)
    sft_count: PositiveInt | None = None
    """Instead of a share."""
    seed: int = 0


class Engine(Section):
    """Who samples the rollouts of the stage `rl`."""

    name: Literal["local", "vllm", "vllm_server"] = "local"
    """The trainer's own model; vLLM in the trainer's process; vLLM's server elsewhere (`foveate serve-rollouts`)."""
    prefill_tokens: PositiveInt = 16_384
    """`local`: positions of the contexts that are read together, padding included; one that is longer is read alone."""
    samples: PositiveInt = 256
    """`local`: that are written together; those of one context always are."""
    gpu_memory: float = Field(default=0.3, gt=0, lt=1)
    """`vllm`: the engine's share of the GPU's memory, its weights included."""
    sleep: bool = True
    """`vllm`: gives that memory to the trainer between rollouts; a GPU's only."""
    max_length: PositiveInt | None = None
    """`vllm`: positions of a sequence, which the engine reserves memory for; the checkpoint's own where None."""
    max_images: PositiveInt = 16
    """`vllm`: in one context."""
    url: str | None = None
    """`vllm_server`: where it listens, such as http://gpu-2:8000."""
    shared_folder: str | None = None
    """`vllm_server`: for the weights, under the same path on both machines."""
    difference_bound: float | None = Field(default=None, gt=0)
    """Of the mean absolute difference between its log-probs and the trainer's; from the precision where None."""

    @model_validator(mode="after")
    def _a_server_is_somewhere(self) -> Engine:
        if self.name == "vllm_server" and not (self.url and self.shared_folder):
            raise ValueError("vllm_server needs setup.engine.url and setup.engine.shared_folder")
        return self


class LoRA(Section):
    """Adapters of low rank in place of full fine-tuning (arXiv 2106.09685)."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0)
    """What an adapter adds is scaled by alpha / rank."""
    targets: Literal["language", "all"] = "language"
    """The linear layers of the language model's blocks; or those of the vision tower and its projector too."""


class Setup(Section):
    """How a run uses the machine: nothing of the method. Not among `Recipe.settings`, by which runs are compared."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Of what is computed. Weights that are trained are float32 in either, or updates of 1e-6 would be rounded away;
    with bfloat16 the linear layers that are not trained are kept in it."""
    gradient_checkpointing: bool = False
    """Computes each block once more in the backward pass instead of keeping what it computed."""
    lora: LoRA | None = None
    """Trains adapters and leaves the model as it is; all weights are trained where None."""
    quantize: Literal["4bit"] | None = None
    """Of the language model's linear layers below LoRA: QLoRA (arXiv 2305.14314). Needs bitsandbytes."""
    vision_tower: Literal["train", "freeze"] = "train"
    """Whether full fine-tuning moves the vision tower and its projector. Frozen, an image's features are kept for as
    long as they hold. With LoRA, `lora.targets` says what is trained."""
    shard: Literal["none", "full"] = "none"
    """With several processes: each has all weights, gradients and optimizer (DDP), or with `full` a part (FSDP2)."""
    keep_checkpoints: PositiveInt = 2
    """The newest ones that are kept, each of which can be resumed."""
    keep_every: PositiveInt | None = None
    """Every so many steps a checkpoint is kept for good, in the end without its optimizer; none where None."""
    max_skipped_updates: PositiveInt = 5
    """A loss or gradient that is not finite skips the update; the run ends after a step with this many in a row."""
    trackers: list[Tracker] = []
    """Where metrics go besides metrics.jsonl."""
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _goes_together(self) -> Setup:
        if self.quantize and not self.lora:
            raise ValueError("quantize is for LoRA, weights of 4 bits cannot be trained: set setup.lora.rank=16")
        if self.lora and self.lora.targets == "all" and self.vision_tower == "freeze":
            raise ValueError(
                "vision_tower=freeze and lora.targets=all contradict one another: set lora.targets=language"
            )
        return self

    @property
    def trains_tower(self) -> bool:
        """Whether the vision tower changes in training, by its weights or by adapters."""
        return self.lora.targets == "all" if self.lora else self.vision_tower == "train"

    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted name, as `--set` takes it."""
        return {f"setup.{name}": value for name, value in self.model_dump(mode="json").items()}

    def trajectory(self) -> dict[str, Any]:
        """What a run is not the same run without, by dotted names: a run resumes with these as it began."""
        kept = self.model_dump(include={"precision", "lora", "quantize", "vision_tower"})
        return {f"setup.{name}": value for name, value in kept.items()} | {"setup.engine.name": self.engine.name}
