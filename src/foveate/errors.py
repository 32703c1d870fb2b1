"""What every failure that a person can mend has in common."""

from __future__ import annotations


class FoveateError(Exception):
    """A failure whose message says what is wrong and how to mend it; the command line shows it without a traceback."""
