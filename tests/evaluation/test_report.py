import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.scripted import SHORT, BriefGenerator

from foveate.episodes import run_episodes
from foveate.evaluation.report import Case, first_cases, write_report
from foveate.evaluation.runner import evaluate
from foveate.generators.base import Sampling
from foveate.images import PixelBudget, fit_size
from foveate.protocols import Direct, LocateThenAnswer, PointThenCount
from foveate.questions.scenes import SceneConfig, Scenes
from foveate.questions.schema import Question
from foveate.regions import Box

CURVES = [
    {"step": i, "reward": i / 30, "accuracy": i / 30, "iog30": i / 40, "mean_iou": i / 60, "box_area": 0.03,
     "valid_boxes": 0.9, "kl": i * 1e-4}
    for i in range(30)
]  # fmt: skip
HOSTILE = (
    '<script>alert("x")</script><img src="http://evil.example/a.png" onerror="x()">\'"><style>*{}</style>{{ 7 * 7 }}'
)


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _says(box: str, answer: str = "7") -> BriefGenerator:
    return BriefGenerator(lambda context, seed: box if "locate" in str(context.messages[0].parts[-1]) else answer)


def _episode(question, generator, protocol=None):
    stripped = question.without_annotations()
    return run_episodes([stripped], protocol or LocateThenAnswer(), generator, sampling=Sampling(0))[0].episodes[0]


def _report(tmp_path, questions, before="0, 0, 56, 56", after="56, 56, 112, 112", answer="7", **keywords):
    was = evaluate(questions, LocateThenAnswer(), _says(before, answer))
    now = evaluate(questions, LocateThenAnswer(), _says(after, answer))
    path = write_report(
        tmp_path / "new" / "report.html",
        title=keywords.pop("title", "A title"),
        before={"sampled": was.summary, "greedy": was.summary},
        after={"sampled": now.summary, "greedy": now.summary},
        cases=first_cases(was, now),
        **{"curves": CURVES, "facts": {"command": "foveate demo", "seed": 0}, **keywords},
    )
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scenes() -> list[Question]:
    return Scenes(SceneConfig(), seed=3, length=12)[:]


@pytest.fixture(scope="module")
def html(tmp_path_factory, scenes) -> str:
    return _report(tmp_path_factory.mktemp("report"), scenes)


def test_it_needs_nothing_else(html):
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "poster", "xlink:href"):
                assert value.startswith("data:image/")
    assert not re.search(r"https?://|url\(|@import", html)
    (policy,) = (m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_twelve_scenes_are_small(html):
    assert len(html) < 3_000_000
    assert html.count("<article") == 12


def test_every_picture_says_what_it_is(html):
    pictures = Page(html).all("img")
    assert len(pictures) >= 12 * 5
    assert all(picture["alt"].strip() for picture in pictures)
    assert all(int(picture["width"]) > 0 and int(picture["height"]) > 0 for picture in pictures)
    assert all(figure.get("aria-label") for figure in Page(html).all("svg") if figure.get("role") == "img")


def test_it_says_what_was_measured(html):
    text = " ".join(Page(html).text.split())
    for words in ("Right answers", "Sampled", "Greedy", "95 % bootstrap interval", "foveate demo", "12 questions"):
        assert words in text


def test_hostile_text_is_only_text(tmp_path, scenes):
    hostile = replace(scenes[0], text=HOSTILE, answer=HOSTILE, id=HOSTILE)
    choices = replace(scenes[1], choices={"A": HOSTILE, "B": "b"}, answer="A")
    html = _report(
        tmp_path, [hostile, choices], answer=HOSTILE, before=HOSTILE, title=HOSTILE, facts={HOSTILE: HOSTILE},
        cases_note=HOSTILE,
    )  # fmt: skip
    page = Page(html)
    assert page.all("script") == []
    assert len(page.all("style")) == 1
    assert all(picture["src"].startswith("data:image/") for picture in page.all("img"))
    assert HOSTILE in page.text
    assert "49" not in page.text.replace("{{ 7 * 7 }}", "").split("How these")[1]


def _marks(html: str, kind: str) -> list[list[float]]:
    found = re.findall(
        rf'class="box {kind}" style="left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%"', html
    )
    return [[float(number) for number in mark] for mark in found]


@pytest.mark.parametrize("size", [(1024, 1024), (1600, 900), (700, 1400)])
def test_boxes_are_where_they_should_be(tmp_path, size):
    (question,) = Scenes(SceneConfig(size=size), seed=4, length=1)[:]
    writing = question.regions[0][0]
    html = _report(tmp_path, [question], before="28, 14, 56, 42")
    share = [100 * c / size[i % 2] for i, c in enumerate((writing.x1, writing.y1, writing.width, writing.height))]
    true = _marks(html, "true")
    assert len(true) == 3  # the original, before, after
    assert all(mark == pytest.approx(share, abs=0.011) for mark in true)
    view = fit_size(size, SHORT.budget, 28)
    wanted = pytest.approx([100 * c / view[i % 2] for i, c in enumerate((28, 14, 28, 28))], abs=0.011)
    assert _marks(html, "predicted")[0] == wanted
    assert _marks(html, "before") == [wanted]  # the same part of the original


def test_what_is_missing_is_said(tmp_path, scenes):
    html = _report(tmp_path, scenes[:1], before="nowhere to be seen")
    assert "No usable box" in html
    assert "nowhere to be seen" in html
    assert _marks(html, "before") == []


def test_counting_is_reported_without_boxes(tmp_path):
    [counted] = Scenes(SceneConfig(size=448, kind="count"), length=1)[:]
    summary = evaluate([counted], PointThenCount(), _says("", "")).summary
    before = _episode(counted, BriefGenerator(lambda *_: ""), PointThenCount())
    after = _episode(counted, BriefGenerator(lambda *_: "8 8 1"), PointThenCount())
    figures = {"greedy": summary}
    page = write_report(
        tmp_path / "r.html", title="t", before=figures, after=figures, cases=[Case(counted, before, after)]
    )
    html = page.read_text()
    Page(html)
    assert "No answer could be read" in html
    assert _marks(html, "predicted") == []


def test_other_protocols_and_images_without_true_boxes(tmp_path, scenes):
    bare = scenes[0].without_annotations()
    summary = evaluate([bare], Direct(), _says("", "7")).summary
    kept = LocateThenAnswer(withhold_full_image=False)
    forty = " ".join(f"[{i}, 0, {i + 28}, 112]" for i in range(40))
    case = Case(bare, _episode(bare, _says("", "7"), Direct()), _episode(bare, _says(forty), kept))
    path = write_report(
        tmp_path / "r.html", title="t", before={"greedy": summary}, after={"greedy": summary}, cases=[case]
    )
    html = path.read_text()
    Page(html)
    assert _marks(html, "true") == []
    assert len(_marks(html, "predicted")) == 4
    assert "How it learned" not in html


def test_large_pictures_are_scaled_down(tmp_path):
    (question,) = Scenes(SceneConfig(size=4096, view_pixels=1024 * 1024, writing_px=60), seed=1, length=1)[:]
    traits = replace(SHORT, budget=PixelBudget(28 * 28, 1024 * 1024))
    generator = replace(_says("100, 100, 900, 900"), traits=traits)
    episode = _episode(question, generator)
    assert episode.turns[0].context.views[0].size == (1008, 1008)
    summary = evaluate([question], LocateThenAnswer(), generator).summary
    path = write_report(
        tmp_path / "r.html", title="t", before={"greedy": summary}, after={"greedy": summary},
        cases=[Case(question, episode, episode)],
    )  # fmt: skip
    assert path.stat().st_size < 250_000


def test_before_and_after_must_match(tmp_path, scenes):
    evaluation = evaluate(scenes[:2], LocateThenAnswer(), _says("0, 0, 56, 56"))
    other = evaluate(scenes[2:4], LocateThenAnswer(), _says("0, 0, 56, 56"))
    with pytest.raises(ValueError, match="not the same questions"):
        first_cases(evaluation, other)
    with pytest.raises(ValueError, match="same decodings"):
        write_report(tmp_path / "r.html", title="t", before={"greedy": evaluation.summary}, after={})


def test_answers_are_told_right_from_wrong(tmp_path):
    box = Box(0, 0, 10, 10)
    (question,) = Scenes(SceneConfig(), seed=3, length=1)[:]
    question = replace(question, regions=((box,),))
    html = _report(tmp_path, [question], answer=question.answer, before="none")
    assert (html.count("verdict right"), html.count("verdict wrong")) == (1, 1)
