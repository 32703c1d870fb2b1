"""What differs between model families, and the embedded tiny model."""

from foveate.families.base import VLM, ContextError, Encoded, Family, UnsupportedModelError
from foveate.families.loading import EMBEDDED, checkpoint_digest, load

__all__ = ["EMBEDDED", "VLM", "ContextError", "Encoded", "Family", "UnsupportedModelError", "checkpoint_digest", "load"]
