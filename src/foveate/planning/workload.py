"""What a recipe asks of a model in one step, as shapes: contexts, replies, and the packed rows of both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from foveate.families.geometry import Grid
from foveate.planning.models import Shapes
from foveate.recipes import Recipe
from foveate.recipes.sections import FreeMultiTurnSettings, LocateSettings, MultiTurnSettings, ZoomSettings
from foveate.training.attention import PackedLayout
from foveate.training.packing import PackedBatch


@dataclass(frozen=True)
class Assumed:
    """What no recipe says and a plan has to assume.

    Attributes:
        prompt_tokens: of text in a context: chat format, instruction and question.
        reply_tokens: of a reply on average, for time; None for a quarter of `rollout.max_new_tokens`. Memory is that
            of replies as long as may be.
        crops: of an answer on average, for time. Memory is that of as many as a protocol allows.
    """

    prompt_tokens: int = 192
    reply_tokens: int | None = None
    crops: int = 1


@dataclass(frozen=True)
class RowShape:
    """One packed row: a prompt and its branches.

    Attributes:
        name: of the turn, for people.
        images: rows and columns of visual tokens of each view in the prompt.
        text: tokens of text in the prompt.
        branches: episodes that share it.
        reply: tokens that are sampled at a time.
        turns: replies of a branch, with `between` text tokens and the views of `inserted` before each but the first.
    """

    name: str
    images: tuple[Grid, ...]
    text: int
    branches: int
    reply: int
    turns: int = 1
    inserted: tuple[Grid, ...] = ()
    between: int = 0

    def prompt(self, shapes: Shapes) -> int:
        """Tokens of the prompt."""
        return self.text + sum(map(shapes.geometry.visual_tokens, self.images))

    def branch(self, shapes: Shapes) -> int:
        """Tokens of a branch: replies, and what comes between."""
        more = self.between + sum(map(shapes.geometry.visual_tokens, self.inserted))
        return self.turns * self.reply + (self.turns - 1) * more

    def positions(self, shapes: Shapes) -> int:
        """Of the whole row."""
        return self.prompt(shapes) - 1 + self.branches * self.branch(shapes)

    @property
    def sampled(self) -> int:
        """Tokens of the row that are trained on."""
        return self.branches * self.turns * self.reply

    def sequence(self, shapes: Shapes) -> int:
        """Tokens of one episode's sequence, prompt and all turns."""
        return self.prompt(shapes) + self.branch(shapes)


@dataclass(frozen=True)
class Rows:
    """Rows of one kind in an update: `count` of them, `together` in a batch."""

    row: RowShape
    count: int
    together: int

    @property
    def batches(self) -> float:
        """How many batches they fill."""
        return self.count / self.together


def rows_of(recipe: Recipe, shapes: Shapes, assumed: Assumed, *, longest: bool) -> list[tuple[RowShape, int]]:
    """The kinds of rows of one question's group under `rl`, each with how many there are.

    Args:
        longest: every reply and every number of crops at its limit; otherwise as assumed.
    """
    rollout, asked = recipe.rollout, recipe.protocol
    reply = rollout.max_new_tokens if longest else min(_average(recipe, assumed), rollout.max_new_tokens)
    view = shapes.geometry.grid(recipe.images.view_budget(shapes.budget).max_pixels)
    crop = shapes.geometry.grid(recipe.images.crop_budget(shapes.budget).max_pixels)
    first = RowShape("question", (view,), assumed.prompt_tokens, rollout.group_size, reply)
    if isinstance(asked, LocateSettings):
        crops = asked.max_boxes if longest else min(assumed.crops, asked.max_boxes)
        kept: tuple[Grid, ...] = ()
        if not asked.withhold_full_image:
            kept = (
                shapes.geometry.grid(
                    (recipe.images.answer_budget(shapes.budget) or recipe.images.view_budget(shapes.budget)).max_pixels
                ),
            )
        answer = RowShape("answer", (*kept, *(crop,) * crops), assumed.prompt_tokens, 1, reply)
        return [(replace(first, name="locate"), 1), (answer, rollout.group_size)]
    turns = 1
    if isinstance(asked, MultiTurnSettings | FreeMultiTurnSettings):
        turns = asked.turns
    elif isinstance(asked, ZoomSettings):
        turns = 1 + (asked.max_calls if longest else min(assumed.crops, asked.max_calls))
    if turns > 1:
        first = replace(first, turns=turns, inserted=(crop,), between=assumed.prompt_tokens // 2)
    return [(first, 1)]


def in_batches(rows: list[tuple[RowShape, int]], shapes: Shapes, questions: int, tokens_per_batch: int) -> list[Rows]:
    """The rows of an update over `questions` questions, in batches as `training.packing.pack` fills them."""
    kinds = []
    for row, count in rows:
        total = count * questions
        kinds.append(Rows(row, total, max(1, min(total, tokens_per_batch // row.positions(shapes)))))
    return sorted(kinds, key=lambda kind: (kind.row.branches, kind.row.prompt(shapes)))


def batch_of(kind: Rows, shapes: Shapes) -> PackedBatch:
    """A batch of these rows, as `training.packing` would make it: ids, positions and masks; pictures of one colour."""
    row, rows = kind.row, kind.together
    prefix, length = row.prompt(shapes) - 1, row.branch(shapes)
    total = prefix + row.branches * length
    ids_BT = torch.full((rows, total), shapes.text_token_id)
    shown = sum(map(shapes.geometry.visual_tokens, row.images))
    ids_BT[:, :shown] = shapes.image_token_id
    keep_BGL = torch.ones(rows, row.branches, length, dtype=torch.bool)
    inserted = sum(map(shapes.geometry.visual_tokens, row.inserted))
    for turn in range(1, row.turns):
        start = turn * row.reply + (turn - 1) * (row.between + inserted)
        keep_BGL[:, :, start : start + row.between + inserted] = False
        for branch in range(row.branches):
            first = prefix + branch * length + start + 1
            ids_BT[:, first : first + inserted] = shapes.image_token_id
    keep_BK = keep_BGL.flatten(1)
    sampled = int(keep_BK.sum())
    of_one = [*row.images, *(row.inserted * ((row.turns - 1) * row.branches))]
    return PackedBatch(
        layout=PackedLayout(prefix, row.branches, length, torch.ones(rows, prefix, dtype=torch.bool)),
        input_ids_BT=ids_BT,
        positions_ABT=torch.arange(total).expand(shapes.geometry.axes, rows, -1),
        labels_BK=torch.full((rows, row.branches * length), shapes.text_token_id),
        keep_BK=keep_BK,
        episode_N=torch.zeros(sampled, dtype=torch.long),
        token_N=torch.arange(sampled),
        images=shapes.geometry.plain(of_one * rows),
    )


def _average(recipe: Recipe, assumed: Assumed) -> int:
    return assumed.reply_tokens or max(1, recipe.rollout.max_new_tokens // 4)
