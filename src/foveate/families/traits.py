"""What is said of a model whether its weights are here or elsewhere. Imports no torch."""

from __future__ import annotations

from typing import Literal

from foveate.errors import FoveateError

BoxStyle = Literal["json", "short"]
"""How a model is asked to write boxes: JSON with `bbox_2d`, or four bare numbers (the embedded model)."""


class UnsupportedModelError(FoveateError, ValueError):
    """A checkpoint that foveate cannot speak to; the message says why and what can be used."""
