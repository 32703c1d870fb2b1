import xml.etree.ElementTree as ElementTree

import pytest

from foveate.study.analysis import Estimate
from foveate.study.plots import bars, curves, dots

LOW, HIGH = Estimate(0.2, 0.1, 0.35, {0: 0.15, 1: 0.25}, 100), Estimate(0.6, 0.5, 0.7, {0: 0.6}, 100)
CURVES = {"hart": [(0.0, HIGH), (0.3, LOW)], "grpo": [(0.3, LOW)]}
DRAWINGS = {
    "dots": lambda path: dots(path, {"hart": HIGH, "grpo": LOW}, "IoG > 0.3"),
    "bars": lambda path: bars(path, {"hart": {"own": HIGH, "noise": LOW}, "grpo": {"own": LOW}}, "right answers"),
    "curves": lambda path: curves(path, CURVES, "leakage", "IoG > 0.3"),
    "bands": lambda path: curves(path, CURVES, "threshold", "share", bands=True),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_plot_is_always_the_same_picture(tmp_path, draw):
    for name in ("one", "other"):
        draw(tmp_path / "new folder" / f"{name}.svg")
    one, other = sorted((tmp_path / "new folder").iterdir())
    assert one.read_bytes() == other.read_bytes()
    assert b"<dc:date>" not in one.read_bytes()
    assert ElementTree.parse(one).getroot().tag.endswith("svg")


def test_one_seed_and_one_amount(tmp_path):
    dots(tmp_path / "dots.svg", {"hart": HIGH}, "")
    curves(tmp_path / "curve.svg", {"hart": [(0.5, HIGH)]}, "", "")
    bars(tmp_path / "bars.svg", {"hart": {"own": HIGH}}, "")
    assert len(list(tmp_path.iterdir())) == 3


def test_two_seeds_get_no_band(tmp_path):
    for name, seeds in (("two", 2), ("three", 3)):
        curve = [(amount, Estimate(0.5, 0.4, 0.6, dict.fromkeys(range(seeds), 0.5), 100)) for amount in (0.0, 0.5)]
        curves(tmp_path / f"{name}.svg", {"hart": curve}, "", "", bands=True)
    drawn = {path.stem: b"PolyCollection" in path.read_bytes() for path in tmp_path.iterdir()}
    assert drawn == {"two": False, "three": True}
