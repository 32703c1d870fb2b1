"""Who answers a context."""

from foveate.generators.base import Generator, Request, Sampling
from foveate.generators.local import LocalGenerator

__all__ = ["Generator", "LocalGenerator", "Request", "Sampling"]
