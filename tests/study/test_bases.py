"""Bases are made once, kept under a name that tells what they are made of, and there whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foveate.families import load
from foveate.laboratory.variants import Variant, scenes
from foveate.study import bases
from foveate.study.bases import base_folder, checkpoint_of, make_base, missing_bases

VARIANTS = {
    "sharp": Variant(scenes(), look=1, speak=1),
    "leaning": Variant(scenes(0.5), start="sharp", speak=1),
    "other": Variant(scenes(), speak=1),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bases, "VARIANTS", VARIANTS)
    return tmp_path / "foveate" / "bases"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Variant, str]]:
    """What was built from what; instead of building it."""
    calls: list[tuple[Variant, str]] = []

    def build(variant: Variant, start: str, directory: Path) -> None:
        calls.append((variant, start))
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")

    monkeypatch.setattr(bases, "build_variant", build)
    return calls


def test_a_base_is_built_into_the_cache_and_loads(cache: Path) -> None:
    make_base("other")
    assert [folder.name for folder in cache.iterdir()] == [base_folder("other").name]
    assert load(checkpoint_of("other")).family.box_style == "short"
    assert missing_bases("other") == []


def test_the_shipped_base_is_never_made() -> None:
    assert checkpoint_of("tiny") == "tiny"
    assert missing_bases("tiny") == []


def test_what_a_base_starts_from_is_made_before_it(built: list[tuple[Variant, str]]) -> None:
    assert missing_bases("leaning") == ["sharp", "leaning"]
    make_base("sharp")
    assert missing_bases("leaning") == ["leaning"]
    make_base("leaning")
    assert missing_bases("leaning") == []
    assert built == [(VARIANTS["sharp"], "tiny"), (VARIANTS["leaning"], str(base_folder("sharp")))]


def test_the_folder_is_named_after_all_that_the_base_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: base_folder(name) for name in VARIANTS}
    assert len(set(before.values())) == 3

    def changed(name: str, **numbers: object) -> set[str]:
        monkeypatch.setattr(bases, "VARIANTS", {**VARIANTS, name: replace(VARIANTS[name], **numbers)})  # type: ignore[arg-type]
        return {each for each in VARIANTS if base_folder(each) != before[each]}

    assert changed("leaning", speak=2) == {"leaning"}
    assert changed("leaning", text_rate=1e-3) == {"leaning"}
    assert changed("sharp", scenes=scenes(0.1)) == {"sharp", "leaning"}
    assert changed("other") == set()


def test_a_build_that_fails_leaves_nothing_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(variant: Variant, start: str, directory: Path) -> None:
        directory.mkdir(parents=True)
        (directory / "half.safetensors").write_bytes(b"")
        raise OSError("no space left on device")

    monkeypatch.setattr(bases, "build_variant", fail)
    with pytest.raises(OSError, match="no space"):
        make_base("sharp")
    assert list(cache.iterdir()) == []
    assert missing_bases("sharp") == ["sharp"]


def test_a_base_that_is_there_is_not_made_again(built: list[tuple[Variant, str]]) -> None:
    make_base("sharp")
    make_base("sharp")
    assert len(built) == 1


def test_a_base_that_another_study_made_meanwhile_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(variant: Variant, start: str, directory: Path) -> None:
        directory.mkdir(parents=True)
        base_folder("sharp").mkdir()
        (base_folder("sharp") / "theirs").write_text("")

    monkeypatch.setattr(bases, "build_variant", build)
    make_base("sharp")
    assert [path.name for path in cache.rglob("*")] == [base_folder("sharp").name, "theirs"]
