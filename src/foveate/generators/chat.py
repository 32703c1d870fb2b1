"""Contexts as the messages of OpenAI's chat completions, and what comes back as completions."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any

from foveate.context import Context, Message, Sampled
from foveate.generators.faults import RequestError, fault_in_body
from foveate.images import View
from foveate.protocols.base import Completion, FinishReason, Usage

_CUT_OFF = frozenset(("length", "max_tokens"))
_WITHHELD = frozenset(("content_filter", "safety"))


def chat_messages(context: Context, jpeg_quality: int | None = None) -> list[dict[str, Any]]:
    """The messages of a context, pictures as data URLs.

    A view goes out at exactly the size it has. It fits the family's budget and is made of whole visual tokens, so that
    a server that resizes as the family's own processor does leaves it as it is.

    Args:
        jpeg_quality: of the pictures, 1 to 95; lossless PNG where None.
    """
    return [{"role": message.role, "content": _content(message, jpeg_quality)} for message in context.messages]


def _content(message: Message, jpeg_quality: int | None) -> str | list[dict[str, Any]]:
    """A text alone as a string: not every server takes a list of parts from the system or the assistant."""
    if len(message.parts) == 1 and not isinstance(message.parts[0], View):
        return _text(message.parts[0])
    return [
        {"type": "image_url", "image_url": {"url": data_url(part, jpeg_quality)}}
        if isinstance(part, View)
        else {"type": "text", "text": _text(part)}
        for part in message.parts
    ]


def _text(part: str | Sampled) -> str:
    return part.text if isinstance(part, Sampled) else part


def data_url(view: View, jpeg_quality: int | None) -> str:
    """A view's pixels in a URL."""
    stream = io.BytesIO()
    if jpeg_quality is None:
        view.image.save(stream, "PNG")
    else:
        view.image.save(stream, "JPEG", quality=jpeg_quality, subsampling=0)  # colour at full resolution
    kind = "png" if jpeg_quality is None else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def read_reply(body: bytes, content_type: str) -> Completion:
    """The first choice of a chat completion.

    What a model thought aside (`reasoning_content`) is not part of its reply; a refusal is its reply.

    Raises:
        RequestError: the body is not that of a chat completion or tells of an error, or a filter withheld the reply.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        what = "an empty body" if not body.strip() else f"{len(body)} bytes of {content_type or 'no type'}, not JSON"
        raise RequestError.again(f"the server sent {what}") from None
    if not isinstance(answer, dict):
        raise RequestError.again("the server sent JSON that is not an object")
    if not answer.get("choices"):
        raise fault_in_body(answer) or RequestError.again("the server sent a reply without choices")
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        text = _written(message.get("content")) or str(message.get("refusal") or "")
    except (LookupError, TypeError, AttributeError):
        raise RequestError.again("the server sent a malformed reply") from None
    finish = choice.get("finish_reason")
    if finish in _WITHHELD:  # what is there of it is not what the model said
        raise RequestError.alone(f"the reply was withheld: {finish}")
    if finish == "error":
        raise fault_in_body(choice) or RequestError.again("the server broke the reply off with an error")
    reason = FinishReason.LENGTH if finish in _CUT_OFF else FinishReason.END
    return Completion((), (), text.strip(), reason, _usage(answer.get("usage")))


def _written(content: object) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, list):
        content = "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    # JSON can hold half a surrogate pair, which no file and no request could.
    return (content or "").encode(errors="replace").decode()


def _usage(counted: object) -> Usage | None:
    if not isinstance(counted, Mapping):
        return None
    numbers = [counted.get("prompt_tokens"), counted.get("completion_tokens")]
    match numbers:
        case [int(shown), int(written)]:
            return Usage(shown, written)
    return None
