"""Who answers a context. torch is imported when `LocalGenerator` is first used: an endpoint needs none."""

from typing import TYPE_CHECKING, Any

from foveate.generators.base import Generator, Request, Sampling
from foveate.generators.endpoint import EndpointGenerator
from foveate.generators.faults import EndpointError
from foveate.generators.recorded import RecordedGenerator, RecordError
from foveate.generators.settings import Endpoint
from foveate.generators.spending import Prices, Spent

if TYPE_CHECKING:
    from foveate.generators.local import LocalGenerator

__all__ = [
    "Endpoint",
    "EndpointError",
    "EndpointGenerator",
    "Generator",
    "LocalGenerator",
    "Prices",
    "RecordError",
    "RecordedGenerator",
    "Request",
    "Sampling",
    "Spent",
]


def __getattr__(name: str) -> Any:
    if name == "LocalGenerator":
        from foveate.generators.local import LocalGenerator

        return LocalGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
