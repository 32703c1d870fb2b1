"""A request of a task: its question, how the reply is drawn, and what of the reply the task gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from foveate.episodes import Episode, StopReason
from foveate.errors import FoveateError
from foveate.images import ImageSource
from foveate.questions.schema import Question

Messages = Iterable[Mapping[str, Any]]
"""As lmms-eval's `doc_to_messages` gives them: a role, and parts of the types text, image, video and audio."""


class TaskError(FoveateError, ValueError):
    """A task that foveate cannot be asked; the message names the task, the question and the reason."""


@dataclass(frozen=True, slots=True)
class TaskRequest:
    """One question of a task.

    Attributes:
        messages: called when its turn has come, and then once: a task decodes its pictures there.
        gen_kwargs: the task's `generation_kwargs`.
    """

    task: str
    split: str
    doc_id: int | str
    messages: Callable[[], Messages]
    gen_kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Where it is from, as `task/split/number`."""
        return f"{self.task}/{self.split}/{self.doc_id}"


def question_of(messages: Messages, name: str) -> Question:
    """The pictures, as the task has them, and the task's own words, to be asked verbatim.

    The first picture is the one that is located in. All stand before the words, in order, wherever the task has them.

    Raises:
        TaskError: no picture, video or sound, or a conversation that has begun already.
    """
    texts: list[str] = []
    pictures: list[Any] = []
    for message in messages:
        if message["role"] != "user":
            raise TaskError(f"{name}: holds a message of role {message['role']!r}; only a user's can be asked")
        for part in message["content"]:
            if part["type"] == "text":
                texts.append(part["text"])
            elif part["type"] == "image":
                pictures.append(part["url"])
            else:
                raise TaskError(f"{name}: holds {part['type']}; foveate looks at pictures only")
    if not pictures:
        raise TaskError(f"{name}: holds no picture; foveate is asked about pictures")
    first, *others = (_source(picture, name) for picture in pictures)
    text = "\n".join(texts)
    return Question(id=name, image=first, text=text, answer="", verbatim=True, others=tuple(others))


def _source(picture: object, name: str) -> ImageSource:
    if isinstance(picture, Image.Image):
        return lambda: picture
    if isinstance(picture, str | bytes):
        return picture
    raise TaskError(f"{name}: its picture is {type(picture).__name__}, not a PIL image, a path or encoded bytes")


@dataclass(frozen=True, slots=True)
class Decoding:
    """What a task says of how replies are drawn.

    Attributes:
        temperature: 0 is greedy.
        max_new_tokens: of what is returned; None for no limit of the task's.
        until: what is returned ends before the first of these.
    """

    temperature: float = 0.0
    max_new_tokens: int | None = None
    until: tuple[str, ...] = ()

    @classmethod
    def of(cls, gen_kwargs: Mapping[str, Any]) -> Decoding:
        """Of a task's `generation_kwargs`; keys that say nothing of sampling are left to other models.

        Raises:
            TaskError: a way of sampling that foveate does not have.
        """
        temperature = gen_kwargs.get("temperature")
        if temperature is None:
            temperature = 1.0 if gen_kwargs.get("do_sample") else 0.0
        if gen_kwargs.get("do_sample") is False:
            temperature = 0.0
        plain: dict[str, tuple[object, ...]] = {"num_beams": (None, 1)}
        if temperature:
            plain |= {"top_p": (None, 1), "top_k": (None, 0, -1)}
        for name, values in plain.items():
            if (value := gen_kwargs.get(name)) not in values:
                raise TaskError(
                    f"the task asks for {name}={value}; foveate draws from the whole distribution, or greedily: give "
                    f"--gen_kwargs {name}={values[1]} or --gen_kwargs do_sample=False,temperature=0"
                )
        until = gen_kwargs.get("until") or ()
        return cls(
            float(temperature),
            gen_kwargs.get("max_new_tokens"),
            tuple(text for text in ([until] if isinstance(until, str) else until) if text),
        )


def returned(episode: Episode, decoding: Decoding, decode: Callable[[Sequence[int]], str]) -> str:
    """What a task gets of an episode: the answer turn's reply as it was written, within the task's limits.

    It is not our reading of the answer: the task has its own. Empty where the episode ended without an answer turn.
    """
    if episode.stop not in (StopReason.ANSWERED, StopReason.UNPARSED):
        return ""
    completion = episode.turns[-1].completion
    text, limit = completion.text, decoding.max_new_tokens
    if limit is not None and len(completion.token_ids) > limit:
        text = decode(completion.token_ids[:limit])
    for end in decoding.until:
        text = text.partition(end)[0]
    return text
