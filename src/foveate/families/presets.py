"""What must be known of a model that is only reached over a network: its frame, how it writes boxes, its patch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from foveate.families import tiny
from foveate.families.traits import BoxStyle, UnsupportedModelError
from foveate.images import PixelBudget, View
from foveate.regions import Frame


@dataclass(frozen=True, slots=True)
class EndpointFamily:
    """The traits of a model behind an endpoint (`protocols.base.FamilyTraits`). No weights, no tokenizer.

    Attributes:
        name: of the preset.
        frame: the coordinates it writes boxes and points in. The wrong one gives boxes that are wrong without a sign
            of it: see `docs/endpoints.md`.
        box_style: how it is asked to write boxes.
        multiple: sides of views are multiples of it, in pixels.
        budget: pixels of one view.
    """

    name: str
    frame: Frame
    box_style: BoxStyle
    multiple: int
    budget: PixelBudget

    def with_max_pixels(self, pixels: int) -> EndpointFamily:
        """The same with at most so many pixels a view, and `min_pixels` lowered to it where it is over."""
        return replace(self, budget=PixelBudget(min(self.budget.min_pixels, pixels), pixels))

    def feature_count(self, view: View) -> int:
        """Visual tokens of a view by its area: a server that cuts tiles, as InternVL's does, makes others of it."""
        return (view.size[0] // self.multiple) * (view.size[1] // self.multiple)


# The largest view is 1,280 visual tokens. The smallest is what the family's own processor enlarges to: a view that is
# sent is never resized again by it.
_PRESETS = (
    EndpointFamily("qwen2.5-vl", Frame.PIXEL, "json", 28, PixelBudget(56 * 56, 1_003_520)),
    EndpointFamily("qwen2-vl", Frame.THOUSAND, "json", 28, PixelBudget(56 * 56, 1_003_520)),
    EndpointFamily("qwen3-vl", Frame.THOUSAND, "json", 32, PixelBudget(256 * 256, 1_310_720)),
    EndpointFamily("internvl", Frame.THOUSAND, "json", 28, PixelBudget(448 * 448, 1_003_520)),
    EndpointFamily("generic", Frame.THOUSAND, "json", 28, PixelBudget(56 * 56, 1_003_520)),
)


def _tiny() -> EndpointFamily:
    """The embedded model's, as its checkpoint says them."""
    folder = tiny.path()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    return EndpointFamily(
        "tiny",
        Frame.PIXEL,  # Qwen2.5-VL's, whose architecture it has
        config["foveate_box_style"],
        processor["patch_size"] * processor["merge_size"],
        PixelBudget(processor["size"]["shortest_edge"], processor["size"]["longest_edge"]),
    )


ENDPOINT_FAMILIES = (*(preset.name for preset in _PRESETS), "tiny")
"""Names of presets."""

_GUESSES = (
    (re.compile(r"qwen-?2[._-]5-?_?(vl|omni)"), "qwen2.5-vl"),
    (re.compile(r"qwen-?2-?_?vl"), "qwen2-vl"),
    (re.compile(r"qwen-?3-?_?(vl|omni)"), "qwen3-vl"),
    (re.compile(r"intern-?vl"), "internvl"),
    (re.compile(r"(^|/)tiny(@main)?/?$"), "tiny"),
)


def endpoint_family(name: str) -> EndpointFamily:
    """A preset by its name.

    Raises:
        UnsupportedModelError: there is none of that name.
    """
    if name not in ENDPOINT_FAMILIES:
        raise UnsupportedModelError(f"there is no family {name!r} for endpoints: one of {', '.join(ENDPOINT_FAMILIES)}")
    return _tiny() if name == "tiny" else next(preset for preset in _PRESETS if preset.name == name)


def guess_family(model: str) -> str:
    """The preset that a model's name points to; `generic` where it says nothing. A guess: say it aloud."""
    return next((name for pattern, name in _GUESSES if pattern.search(model.lower())), "generic")
