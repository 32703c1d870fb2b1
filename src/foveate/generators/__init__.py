"""Who answers a context."""

from foveate.generators.base import Generator, Request, Sampling
from foveate.generators.endpoint import EndpointError, EndpointGenerator, endpoint_generator
from foveate.generators.local import LocalGenerator
from foveate.generators.recorded import RecordedGenerator, RecordError
from foveate.generators.spending import Prices, Spent

__all__ = [
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
    "endpoint_generator",
]
