"""What one generation is conditioned on: messages of text and views."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from foveate.images import View

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a model said earlier, as the very token ids that it sampled: text is never tokenised again.

    Attributes:
        token_ids: empty where the generator cannot tell (an endpoint, which gets the text back).
        text: what they say.
    """

    token_ids: tuple[int, ...]
    text: str = ""


Part = str | View | Sampled


@dataclass(frozen=True, slots=True)
class Message:
    """One message; an assistant's is exactly one `Sampled` part, others hold none.

    Raises:
        ValueError: it is not so.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        sampled = [isinstance(part, Sampled) for part in self.parts]
        if sampled != [True] if self.role == "assistant" else any(sampled):
            raise ValueError(
                f"a message of role {self.role!r} cannot hold {len(sampled)} parts, {sum(sampled)} sampled"
            )

    @property
    def views(self) -> tuple[View, ...]:
        """Every view in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, View))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Context:
    """The messages, oldest first, that the next generation sees."""

    messages: tuple[Message, ...]

    @classmethod
    def user(cls, *parts: Part, system: str | None = None) -> Context:
        """A fresh context with one user message, after a system message where one is given."""
        opening = (Message("system", (system,)),) if system else ()
        return cls((*opening, Message("user", parts)))

    def replied(self, said: Sampled, *parts: Part) -> Context:
        """This context with what the model said to it, and what it is shown next."""
        return self.then(Message("assistant", (said,)), Message("user", parts))

    def then(self, *messages: Message) -> Context:
        """This context with more messages after it."""
        return Context(self.messages + messages)

    @property
    def views(self) -> tuple[View, ...]:
        """Every view in it, in order."""
        return tuple(view for message in self.messages for view in message.views)

    @property
    def key(self) -> Hashable:
        """Equal for contexts about the same question that show the model the same thing, so that work is shared.

        It does not tell questions apart, whose originals differ: the caller does.
        """
        return tuple(
            (message.role, tuple(part.key if isinstance(part, View) else part for part in message.parts))
            for message in self.messages
        )
