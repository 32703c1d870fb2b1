"""Teach a vision-language model where to look.

`import foveate` is fast: torch and transformers are imported by the modules that need them, `load_questions` when it
is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.questions.readers import load_questions as load_questions

__version__ = "0.1.0"
__all__ = ["__version__", "load_questions"]


def __getattr__(name: str) -> Any:
    if name == "load_questions":
        from foveate.questions.readers import load_questions

        return load_questions
    raise AttributeError(f"module 'foveate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
