"""Numbers of bytes for people."""

from __future__ import annotations


def in_words(size: float) -> str:
    """Bytes in MiB, or in GiB where there is one."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
