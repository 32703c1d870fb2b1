"""Updates that are not made because the loss or its gradient is not finite."""

from __future__ import annotations

import math

from foveate.errors import FoveateError


class SpoiltWeightsError(FoveateError, RuntimeError):
    """An update that was not finite and could not be skipped."""


class Skips:
    """Counts them. One is bad luck, many in a row are a run that has come to nothing.

    Attributes:
        in_step: of the step under way.
        in_a_row: up to now, across steps; kept in checkpoints, so that a resumed run counts on.
        last: what was not finite at the last one, in words.
    """

    def __init__(self) -> None:
        self.in_step, self.in_a_row, self.last = 0, 0, ""

    def begin(self) -> None:
        """A step begins."""
        self.in_step = 0

    def count(self, *, skipped: bool, loss: float, norm: float) -> None:
        """An update was made or skipped."""
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        if skipped:
            self.in_step += 1
            self.last = f"loss {loss}, gradient norm {norm}"


def is_sound(loss: float, norm: float) -> bool:
    """Whether both are finite."""
    return math.isfinite(loss) and math.isfinite(norm)
