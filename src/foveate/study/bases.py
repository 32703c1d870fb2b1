"""Bases that a study needs beside the shipped one: made on first use, kept in the user's cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path

from foveate.families import EMBEDDED
from foveate.laboratory.variants import VARIANTS, Variant, build_variant


def base_folder(name: str) -> Path:
    """Where a base lies, or will: its folder is named after all that it is made from."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "foveate" / "bases" / f"{name}-{_digest(name)}"


def checkpoint_of(name: str) -> str:
    """What `families.load` takes: the folder of a base that the laboratory makes, or the shipped one's name."""
    return name if name == EMBEDDED else str(base_folder(name))


def missing_bases(name: str) -> list[str]:
    """What has to be made before methods can start from a base, in this order; nothing when it is there."""
    if name == EMBEDDED or base_folder(name).is_dir():
        return []
    return [*missing_bases(VARIANTS[name].start), name]


def make_base(name: str) -> None:
    """Makes a base whose own start is there, unless it is there itself; one that is cut short leaves nothing behind."""
    folder = base_folder(name)
    if folder.is_dir():
        return
    aside = folder.with_name(f".making-{folder.name}-{os.getpid()}")
    try:
        build_variant(VARIANTS[name], checkpoint_of(VARIANTS[name].start), aside)
        if not folder.is_dir():  # another study may have made it meanwhile, and the same
            aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _digest(name: str) -> str:
    """Of a variant and of those that it was made from."""
    told = []
    while name != EMBEDDED:
        variant: Variant = VARIANTS[name]
        told.append(repr({key: value for key, value in asdict(variant).items() if key != "seed" or value}))
        name = variant.start
    return blake2b("\n".join(told).encode(), digest_size=6).hexdigest()
