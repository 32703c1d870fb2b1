"""What may stand in `--model_args`, and the recipe that it means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from foveate.errors import FoveateError
from foveate.recipes import Recipe
from foveate.recipes.sections import PROTOCOL_NAMES, PositiveInt, Section
from foveate.runs import recipe_for

PROTOCOLS = PROTOCOL_NAMES - {"ground_answer", "count"}
"""Those that end in a reply which holds the answer alone; a task's scorer would take coordinates for it."""
_DOTTED = ("protocol.", "images.")
"""Settings of a recipe that say how a question is asked."""


class OptionsError(FoveateError, ValueError):
    """`--model_args` that cannot be used; the message names the argument and what there is."""


class Options(Section):
    """The arguments of the model.

    Attributes:
        pretrained: a checkpoint folder, a run folder, a hub id, or `tiny`.
        recipe: a shipped one's name or a file; None for the model's own, as `foveate eval` takes it.
        protocol: another than the recipe's.
        min_pixels: of the full image; the recipe's where None, and so on.
        max_new_tokens: of every turn, or the task's where that is more; the task's cuts the answer alone.
        traces: a folder for the episodes, one JSONL file a task.
        batch_size: questions asked at once.
        device: where the model goes; a GPU where there is one, where None.
        seed: of the samples of tasks that sample.
        settings: further settings of the recipe by their dotted names.
    """

    pretrained: str = "tiny"
    recipe: str | None = None
    protocol: str | None = None
    min_pixels: PositiveInt | None = None
    max_pixels: PositiveInt | None = None
    max_new_tokens: PositiveInt | None = None
    traces: Path | None = None
    batch_size: PositiveInt = 1
    device: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: int = 0
    settings: Mapping[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Options:
        """Of the arguments as lmms-eval passes them.

        Raises:
            OptionsError: an unknown argument, or a value that does not fit.
        """
        dotted = {name: value for name, value in arguments.items() if name.startswith(_DOTTED)}
        plain = {name: value for name, value in arguments.items() if name not in dotted}
        known = [name for name in cls.model_fields if name != "settings"]
        if unknown := sorted(plain.keys() - set(known)):
            raise OptionsError(
                f"foveate has no argument {', '.join(unknown)}; there are {', '.join(known)}, and a recipe's settings "
                "that begin with protocol. or images., such as protocol.max_boxes=1 and images.crop_max_pixels=401408"
            )
        try:
            return cls.model_validate({**plain, "settings": dotted})
        except ValidationError as error:
            wrong = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors())
            raise OptionsError(f"--model_args: {wrong}") from None

    def resolved(self) -> Recipe:
        """The recipe whose protocol and budgets the model is asked by.

        Raises:
            RecipeError: no such recipe or setting.
            OptionsError: a protocol whose replies no task can read.
        """
        said: dict[str, Any] = {
            "protocol.name": self.protocol,
            "images.min_pixels": self.min_pixels,
            "images.max_pixels": self.max_pixels,
            "rollout.max_new_tokens": self.max_new_tokens,
        }
        given = {name: value for name, value in said.items() if value is not None} | dict(self.settings)
        recipe = recipe_for(self.pretrained, self.recipe, [f"{name}={value}" for name, value in given.items()])
        if recipe.protocol.name not in PROTOCOLS:
            raise OptionsError(
                f"the protocol {recipe.protocol.name} gives coordinates and the answer in one reply, which no task "
                f"reads: give protocol={' or '.join(sorted(PROTOCOLS))}"
            )
        return recipe
