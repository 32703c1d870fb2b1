"""What differs between model families, and the embedded tiny model.

torch is imported when something that needs it is first used: the presets for endpoints do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from foveate.families.traits import UnsupportedModelError

if TYPE_CHECKING:
    from foveate.families.base import VLM, ContextError, Encoded, Family
    from foveate.families.loading import EMBEDDED, checkpoint_digest, load

__all__ = ["EMBEDDED", "VLM", "ContextError", "Encoded", "Family", "UnsupportedModelError", "checkpoint_digest", "load"]

_WITH_TORCH = {
    **dict.fromkeys(("VLM", "ContextError", "Encoded", "Family"), "foveate.families.base"),
    **dict.fromkeys(("EMBEDDED", "checkpoint_digest", "load"), "foveate.families.loading"),
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        return getattr(import_module(_WITH_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
